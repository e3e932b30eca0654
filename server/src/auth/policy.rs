//! The table of every RPC and the least role that may call it.

use super::Role;

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Callers with this role or a higher one.
    AtLeast(Role),
}

use Access::{AtLeast, Open};
use Role::{Admin, Infer, Submit};

/// By service: its methods and who may call them. Load balancers must reach health without a token, and `grpcurl` needs
/// reflection before it can say anything; both tell nothing about users.
const TABLE: &[(&str, &[(&str, Access)])] = &[
    ("grpc.health.v1.Health", &[("Check", Open), ("Watch", Open)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Open)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Open)]),
    (
        "inference.GRPCInferenceService",
        &[
            ("ServerLive", Open),
            ("ServerReady", Open),
            ("ServerMetadata", AtLeast(Infer)),
            ("ModelReady", AtLeast(Infer)),
            ("ModelMetadata", AtLeast(Infer)),
            ("ModelInfer", AtLeast(Infer)),
            ("ModelStreamInfer", AtLeast(Infer)),
            ("ModelConfig", AtLeast(Infer)),
            ("ModelStatistics", AtLeast(Infer)),
            ("RepositoryIndex", AtLeast(Infer)),
            ("RepositoryModelLoad", AtLeast(Admin)),
            ("RepositoryModelUnload", AtLeast(Admin)),
            ("SystemSharedMemoryStatus", AtLeast(Infer)),
            ("SystemSharedMemoryRegister", AtLeast(Infer)),
            ("SystemSharedMemoryUnregister", AtLeast(Infer)),
            ("CudaSharedMemoryStatus", AtLeast(Infer)),
            ("CudaSharedMemoryRegister", AtLeast(Infer)),
            ("CudaSharedMemoryUnregister", AtLeast(Infer)),
            ("TraceSetting", AtLeast(Admin)),
            ("LogSettings", AtLeast(Admin)),
        ],
    ),
    (
        "dyadic.v1.ModelService",
        &[
            ("Upload", AtLeast(Submit)),
            ("Get", AtLeast(Submit)),
            ("List", AtLeast(Submit)),
            ("Delete", AtLeast(Submit)),
            ("Download", AtLeast(Submit)),
        ],
    ),
    (
        "dyadic.v1.ServedModelService",
        &[
            ("List", AtLeast(Submit)),
            ("Get", AtLeast(Submit)),
            ("Promote", AtLeast(Submit)),
            ("Rollback", AtLeast(Submit)),
            ("Unpin", AtLeast(Submit)),
            ("Remove", AtLeast(Submit)),
            ("Download", AtLeast(Submit)),
            ("Upload", AtLeast(Submit)),
            ("UploadOffset", AtLeast(Submit)),
        ],
    ),
    (
        "dyadic.v1.DatasetService",
        &[
            ("Upload", AtLeast(Submit)),
            ("UploadOffset", AtLeast(Submit)),
            ("Get", AtLeast(Submit)),
            ("List", AtLeast(Submit)),
            ("Delete", AtLeast(Submit)),
            ("Download", AtLeast(Submit)),
        ],
    ),
    (
        "dyadic.v1.JobService",
        &[
            ("Submit", AtLeast(Submit)),
            ("Plan", AtLeast(Submit)),
            ("Get", AtLeast(Submit)),
            ("List", AtLeast(Submit)),
            ("Cancel", AtLeast(Submit)),
            ("Retry", AtLeast(Submit)),
            ("Watch", AtLeast(Submit)),
        ],
    ),
    (
        "dyadic.v1.ExperimentService",
        &[
            ("List", AtLeast(Submit)),
            ("Compare", AtLeast(Submit)),
            ("QueryMetrics", AtLeast(Submit)),
            ("Export", AtLeast(Submit)),
            ("SetTags", AtLeast(Submit)),
        ],
    ),
    (
        "dyadic.v1.TokenService",
        &[("Create", AtLeast(Admin)), ("List", AtLeast(Admin)), ("Revoke", AtLeast(Admin))],
    ),
];

/// Who may call the RPC of this HTTP path (`/package.Service/Method`); `None` if there is no such RPC.
pub fn access(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = TABLE.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|&(_, access)| access)
}

/// Every service in the table.
pub fn services() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(service, _)| *service)
}

/// Every RPC in the table, as its HTTP path.
pub fn listed() -> impl Iterator<Item = (String, Access)> {
    TABLE.iter().flat_map(|(service, methods)| {
        methods.iter().map(move |(method, access)| (format!("/{service}/{method}"), *access))
    })
}

/// Whether a call of this path lives as long as its caller wants: streams, which have time-outs of their own.
pub fn is_long_lived(path: &str) -> bool {
    ["/Upload", "/Download", "/Watch", "/Export", "/ModelStreamInfer", "/ServerReflectionInfo"]
        .iter()
        .any(|end| path.ends_with(end))
}
