//! What the model as a whole has to be: its operator set, its input and its outputs.

use super::beyond::Beyond;
use super::extents::Extent;
use super::{Lowering, MAX_RANK, Slot, check_size};
use crate::import::OPSETS;
use crate::import::error::ImportError;
use crate::onnx::{DimensionProto, ModelProto, ValueInfoProto, data_type};

impl<'a> Lowering<'a> {
    pub(super) fn opsets(&mut self, model: &ModelProto) {
        let ours = |domain: Option<&str>| matches!(domain, None | Some("" | "ai.onnx"));
        let version =
            model.opset_import.iter().find(|set| ours(set.domain.as_deref())).and_then(|set| set.version);
        match version {
            Some(version) if OPSETS.contains(&version) => self.opset = version,
            Some(version) => self.refuse_model(format!(
                "opset {version}; opsets {} to {} are read: export the network again with one of them",
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
            if let Some(reason) = input_fault(input)? {
                self.refuse_model(format!("input `{name}`: {reason}"));
            }
            let slot = self.input(input)?;
            self.slots.insert(name, slot);
        }
        if self.network.values.is_empty() {
            // Value 0 is the input; where there is none, nothing else may be taken for it.
            self.value("", Vec::new());
        }
        Ok(())
    }

    /// The input, as far as it is known: nodes are judged behind an input that is refused, too.
    fn input(&mut self, input: &'a ValueInfoProto) -> Result<Slot<'a>, ImportError> {
        let name = input.name.as_deref().unwrap_or_default();
        let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let floats = tensor.is_some_and(|tensor| tensor.elem_type == Some(data_type::FLOAT));
        let shape =
            tensor.and_then(|tensor| tensor.shape.as_ref()).filter(|shape| shape.dim.len() <= MAX_RANK);
        let Some([batch, sample @ ..]) = shape.map(|shape| shape.dim.as_slice()) else {
            return Ok(Slot::Beyond(Beyond { extents: None, flows: true }));
        };
        (self.batch, self.batch_name) = (batch.dim_value, batch.dim_param.as_deref());
        self.series = sample.len() == 2;
        let extent = |dim: &DimensionProto| {
            let extent = dim.dim_value.and_then(|extent| usize::try_from(extent).ok());
            extent.map_or(Extent::Unknown, Extent::Known)
        };
        let extents: Vec<Extent> = std::iter::once(Extent::Batch).chain(sample.iter().map(extent)).collect();
        let fixed = |extent: &Extent| match extent {
            Extent::Known(extent) => Some(*extent),
            Extent::Batch | Extent::Unknown => None,
        };
        if let Some(sample) = extents.iter().skip(1).map(fixed).collect::<Option<Vec<_>>>()
            && !sample.contains(&0)
        {
            check_size(name, &sample)?;
        }
        Ok(self.beyond(name, Beyond { extents: Some(extents), flows: true }, floats))
    }
}

/// Why an input is not supported.
fn input_fault(input: &ValueInfoProto) -> Result<Option<String>, ImportError> {
    let name = input.name.as_deref().unwrap_or_default();
    let Some(tensor) = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return Ok(Some("not a tensor".to_owned()));
    };
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    if let Some(wrong) = dims.iter().filter_map(|dim| dim.dim_value).find(|&extent| extent < 0) {
        return Err(ImportError::Graph(format!("input `{name}` has an extent of {wrong}")));
    }
    let kind = tensor.elem_type.unwrap_or_default();
    let [_, sample @ ..] = dims else { return Ok(Some("no shape".to_owned())) };
    Ok(if kind != data_type::FLOAT {
        Some(format!("element type {}; FLOAT is supported", data_type::name(kind)))
    } else if dims.iter().any(|dim| dim.dim_value == Some(0)) {
        Some("an extent of 0".to_owned())
    } else if !matches!(sample.len(), 1..=3) {
        let rank = dims.len();
        Some(format!(
            "rank {rank}; [N, channels, height, width], [N, channels, length] and [N, features] are supported"
        ))
    } else if sample.iter().any(|dim| dim.dim_value.is_none()) {
        Some("an extent other than the batch is not fixed".to_owned())
    } else {
        None
    })
}

/// The extents that a declaration gives as numbers.
fn extents(info: &ValueInfoProto) -> impl Iterator<Item = i64> {
    let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    shape.into_iter().flat_map(|shape| &shape.dim).filter_map(|dim| dim.dim_value)
}
