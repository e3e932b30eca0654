//! The services of `dyadic.v1`: each checks its request, calls the domain and converts the answer.

mod convert;
mod dataset;
mod download;
mod experiment;
mod inspect;
mod job;
mod model;
mod page;
mod planning;
mod publish;
mod served;
mod spec;
mod token;

pub(crate) use dataset::{DatasetApi, Reader as DatasetReader};
pub(crate) use experiment::ExperimentApi;
pub(crate) use inspect::Inspector;
pub(crate) use job::{Checks, JobApi};
pub(crate) use model::ModelApi;
pub(crate) use planning::Planner;
pub(crate) use served::{Pusher, ServedModelApi};
pub(crate) use token::{StoredTokens, TokenApi};
