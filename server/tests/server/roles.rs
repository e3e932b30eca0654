//! Every RPC × every role, from the descriptors that the server itself reflects.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use dyadic_proto::v1::job_service_client::JobServiceClient;
use dyadic_proto::v1::{CreateTokenRequest, ListJobsRequest, RevokeTokenRequest, Role};
use dyadic_server::auth::{self, Access, access};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::harness::Harness;

/// Messages as bytes.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining()).to_vec()))
    }
}

/// Every RPC of the descriptors, as its path.
fn described() -> Vec<String> {
    let sets = [
        dyadic_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
    files
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let service_name = format!("{package}.{}", service.name());
                service.method.into_iter().map(move |method| format!("/{service_name}/{}", method.name()))
            })
        })
        .collect()
}

/// The first thing that an empty message to this RPC is answered with.
async fn outcome(server: &Harness, path: &str, token: Option<&str>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(Vec::new()));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path: PathAndQuery = path.parse().unwrap();
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    answers.message().await.map(|_| ())
}

#[tokio::test]
async fn every_rpc_is_in_the_table_and_nothing_else() {
    let mut described = described();
    let mut listed: Vec<String> = auth::listed().map(|(path, _)| path).collect();
    described.sort();
    listed.sort();
    assert_eq!(described, listed);
}

#[tokio::test]
async fn every_rpc_is_denied_to_all_but_its_roles() {
    let server = Harness::start().await;
    let tokens = BTreeMap::from([
        (Some(auth::Role::Infer), server.token("i", Role::Infer).await),
        (Some(auth::Role::Submit), server.token("s", Role::Submit).await),
        (Some(auth::Role::Admin), server.token("a", Role::Admin).await),
    ]);
    for path in described() {
        let Some(needed) = access(&path) else { panic!("{path} is not in the table") };
        let code = |result: Result<(), Status>| result.map_or_else(|status| status.code(), |()| Code::Ok);
        let open = needed == Access::Open;
        for nobody in [None, Some("dyadic_wrong"), Some("")] {
            let code = code(outcome(&server, &path, nobody).await);
            assert_eq!(code == Code::Unauthenticated, !open, "{path} without a good token: {code:?}");
        }
        for (role, token) in &tokens {
            let allowed = match needed {
                Access::Open => true,
                Access::AtLeast(least) => *role >= Some(least),
            };
            let code = code(outcome(&server, &path, Some(token)).await);
            assert_eq!(code == Code::PermissionDenied, !allowed, "{path} as {role:?}: {code:?}");
            assert_ne!(code, Code::Unauthenticated, "{path} as {role:?}");
            assert!(!matches!(code, Code::Internal | Code::Unknown), "{path} as {role:?}: {code:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_told_to_strangers() {
    let server = Harness::start().await;
    let path = "/dyadic.v1.SecretService/Open";
    assert_eq!(outcome(&server, path, None).await.unwrap_err().code(), Code::Unauthenticated);
    let infer = server.token("i", Role::Infer).await;
    assert_eq!(outcome(&server, path, Some(&infer)).await.unwrap_err().code(), Code::PermissionDenied);
    let local = server.local_token();
    assert_eq!(outcome(&server, path, Some(&local)).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_header_that_begins_with_a_blank_is_read_all_the_same() {
    let server = Harness::start().await;
    let mut jobs = JobServiceClient::new(server.channel());
    let mut list = async |header: String| {
        let mut request = Request::new(ListJobsRequest::default());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        jobs.list(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    let token = server.local_token();
    assert_eq!(list(format!("Bearer {token}")).await, Code::Ok);
    assert_eq!(list(format!(" Bearer {token}")).await, Code::Ok);
    assert_eq!(list(" Bearer wrong".to_owned()).await, Code::Unauthenticated);
    assert_eq!(list(" ".to_owned()).await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_revoked_token_stops_working() {
    let server = Harness::start().await;
    let mut tokens = server.tokens();
    let request = CreateTokenRequest { name: "ann".into(), role: Role::Submit.into() };
    let created = tokens.create(request).await.unwrap().into_inner();
    let path = "/dyadic.v1.JobService/List";
    // Revoked before its first use, so that nothing is remembered of it.
    let id = created.token.unwrap().id;
    tokens.revoke(RevokeTokenRequest { id: id.clone() }).await.unwrap();
    assert_eq!(
        outcome(&server, path, Some(&created.secret)).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let listed = tokens.list(dyadic_proto::v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert!(listed.iter().any(|token| token.id == id && token.revoked_at.is_some()));
}
