//! Names of the models and datasets that jobs name by id, since a revision is what a job is tied to.

use std::collections::HashMap;

use dyadic_proto::v1::{GetDatasetRequest, GetModelRequest, Job, JobSpec};

use crate::connect::Connection;
use crate::output::style::safe;

/// Names by id.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, String>);

impl Names {
    /// Asks for those that the jobs name. What cannot be had, since it is deleted, keeps its id.
    pub(crate) async fn of(connection: &Connection, jobs: &[Job]) -> Self {
        let mut names = HashMap::new();
        for spec in jobs.iter().filter_map(|j| j.resolved.as_ref()) {
            if !names.contains_key(&spec.model) {
                let reply = connection.models().get(GetModelRequest { model: spec.model.clone() }).await;
                let name = reply.map_or_else(|_| spec.model.clone(), |m| m.into_inner().name);
                names.insert(spec.model.clone(), name);
            }
            if !names.contains_key(&spec.dataset) {
                let reply =
                    connection.datasets().get(GetDatasetRequest { dataset: spec.dataset.clone() }).await;
                let name = reply.map_or_else(|_| spec.dataset.clone(), |d| d.into_inner().name);
                names.insert(spec.dataset.clone(), name);
            }
        }
        Names(names)
    }

    /// The name, fit for a terminal.
    pub(crate) fn show(&self, id: &str) -> String {
        safe(self.0.get(id).map_or(id, String::as_str))
    }

    /// The spec with names in place of ids.
    pub(crate) fn put_into(&self, spec: &JobSpec) -> JobSpec {
        JobSpec { model: self.show(&spec.model), dataset: self.show(&spec.dataset), ..spec.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_any_more_keeps_its_id() {
        let names = Names([("1".to_owned(), "lenet".to_owned())].into());
        let spec = JobSpec { model: "1".into(), dataset: "2".into(), ..Default::default() };
        let named = names.put_into(&spec);
        assert_eq!((named.model.as_str(), named.dataset.as_str()), ("lenet", "2"));
    }
}
