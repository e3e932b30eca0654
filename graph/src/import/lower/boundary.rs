//! What the model as a whole has to be: its operator set, its input and its outputs.

use super::{Lowering, Slot, View, check_size};
use crate::import::OPSETS;
use crate::import::error::ImportError;
use crate::onnx::{ModelProto, ValueInfoProto, data_type};

impl Lowering<'_> {
    pub(super) fn opsets(&mut self, model: &ModelProto) {
        let ours = |domain: Option<&str>| matches!(domain, None | Some("" | "ai.onnx"));
        let version =
            model.opset_import.iter().find(|set| ours(set.domain.as_deref())).and_then(|set| set.version);
        match version {
            Some(version) if OPSETS.contains(&version) => {}
            Some(version) => self.refuse_model(format!(
                "opset {version}; opsets {} to {} are read",
                OPSETS.start(),
                OPSETS.end()
            )),
            None => self.refuse_model("no ONNX operator set is declared"),
        }
    }

    /// The graph's input and output.
    pub(super) fn boundaries(&mut self) -> Result<(), ImportError> {
        if !self.graph.sparse_initializer.is_empty() {
            self.refuse_model("sparse constants");
        }
        for info in self.graph.output.iter().chain(&self.graph.value_info) {
            if let Some(extent) = extents(info).find(|&extent| extent < 0) {
                let name = info.name.as_deref().unwrap_or_default();
                return Err(ImportError::Graph(format!("value `{name}` has an extent of {extent}")));
            }
        }
        let names = |infos: &mut dyn Iterator<Item = &ValueInfoProto>| {
            infos
                .map(|info| format!("`{}`", info.name.as_deref().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if self.structure.inputs.len() != 1 {
            let list = names(&mut self.structure.inputs.iter().copied());
            self.refuse_model(format!("{} inputs ({list}); one is supported", self.structure.inputs.len()));
        }
        if self.graph.output.len() != 1 {
            let list = names(&mut self.graph.output.iter());
            self.refuse_model(format!("{} outputs ({list}); one is supported", self.graph.output.len()));
        }
        for &input in &self.structure.inputs {
            let name = input.name.as_deref().unwrap_or_default();
            let slot = match self.input_shape(input)? {
                Ok(shape) => {
                    let value = self.value(name, shape.clone());
                    Slot::View(View { value, shape, padding: [0; 4], origin: (name, name) })
                }
                Err(reason) => {
                    self.refuse_model(format!("input `{name}`: {reason}"));
                    Slot::Unknown
                }
            };
            self.slots.insert(name, slot);
        }
        Ok(())
    }

    /// The input's shape without the batch axis; inside, why it is not supported.
    fn input_shape(&mut self, input: &ValueInfoProto) -> Result<Result<Vec<usize>, String>, ImportError> {
        let name = input.name.as_deref().unwrap_or_default();
        let Some(tensor) = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
            return Ok(Err("not a tensor".to_owned()));
        };
        let kind = tensor.elem_type.unwrap_or_default();
        if kind != data_type::FLOAT {
            return Ok(Err(format!("element type {}; FLOAT is supported", data_type::name(kind))));
        }
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        if let Some(wrong) = dims.iter().filter_map(|dim| dim.dim_value).find(|&extent| extent < 1) {
            return Err(ImportError::Graph(format!("input `{name}` has an extent of {wrong}")));
        }
        let [batch, sample @ ..] = dims else { return Ok(Err("no shape".to_owned())) };
        self.batch = batch.dim_value;
        if sample.len() != 3 && sample.len() != 1 {
            let rank = dims.len();
            return Ok(Err(format!(
                "rank {rank}; [N, channels, height, width] and [N, features] are supported"
            )));
        }
        let extents: Option<Vec<usize>> =
            sample.iter().map(|dim| usize::try_from(dim.dim_value?).ok()).collect();
        let Some(extents) = extents else {
            return Ok(Err("an extent other than the batch is not fixed".to_owned()));
        };
        check_size(name, &extents)?;
        Ok(Ok(extents))
    }
}

/// The extents that a declaration gives as numbers.
fn extents(info: &ValueInfoProto) -> impl Iterator<Item = i64> {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    shape.into_iter().flat_map(|shape| &shape.dim).filter_map(|dim| dim.dim_value)
}
