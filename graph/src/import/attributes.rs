//! Typed access to a node's attributes.

use super::operator::Operator;
use crate::onnx::{AttributeProto, NodeProto, TensorProto, attribute_type};

/// A node's attributes, found by name.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(&'a [AttributeProto]);

impl<'a> Attributes<'a> {
    /// Refuses two attributes of one name.
    pub(super) fn of(node: &'a NodeProto) -> Result<Self, String> {
        let mut names: Vec<&str> =
            node.attribute.iter().filter_map(|attribute| attribute.name.as_deref()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("two attributes named `{}`", pair[0])),
            None => Ok(Self(&node.attribute)),
        }
    }

    /// Refuses attributes that the operator does not have in this opset: they would change what it means.
    pub(super) fn only(self, operator: &Operator, opset: i64) -> Result<(), String> {
        let mut names = self.0.iter().map(|attribute| attribute.name.as_deref().unwrap_or_default());
        match names.find(|name| !operator.has_attribute(opset, name)) {
            Some(name) => Err(format!(
                "{} has no attribute `{name}` in its version {}, which opset {opset} means",
                operator.name,
                operator.version(opset)
            )),
            None => Ok(()),
        }
    }

    /// Whether there is one.
    pub(super) fn has(self, name: &str) -> bool {
        self.0.iter().any(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// Whether any of them is a graph: control flow.
    pub(super) fn have_graph(self) -> bool {
        self.0.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
    }

    pub(super) fn int(self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.find(name, attribute_type::INT)?.map_or(default, |attribute| attribute.i.unwrap_or_default()))
    }

    pub(super) fn float(self, name: &str, default: f32) -> Result<f32, String> {
        let value =
            self.find(name, attribute_type::FLOAT)?.map_or(default, |found| found.f.unwrap_or_default());
        if value.is_finite() { Ok(value) } else { Err(format!("attribute `{name}` is {value}")) }
    }

    /// A float that may be infinite or NaN.
    pub(super) fn any_float(self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.find(name, attribute_type::FLOAT)?.map(|found| found.f.unwrap_or_default()))
    }

    pub(super) fn flag(self, name: &str) -> Result<bool, String> {
        match self.int(name, 0)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("attribute `{name}` is {other}, not 0 or 1")),
        }
    }

    pub(super) fn ints(self, name: &str) -> Result<Option<&'a [i64]>, String> {
        Ok(self.find(name, attribute_type::INTS)?.map(|attribute| attribute.ints.as_slice()))
    }

    pub(super) fn floats(self, name: &str) -> Result<Option<&'a [f32]>, String> {
        Ok(self.find(name, attribute_type::FLOATS)?.map(|attribute| attribute.floats.as_slice()))
    }

    pub(super) fn text(self, name: &str, default: &'static str) -> Result<&'a str, String> {
        match self.find(name, attribute_type::STRING)?.and_then(|attribute| attribute.s.as_deref()) {
            Some(bytes) => std::str::from_utf8(bytes).map_err(|_| format!("attribute `{name}` is not UTF-8")),
            None => Ok(default),
        }
    }

    pub(super) fn tensor(self, name: &str) -> Result<Option<&'a TensorProto>, String> {
        Ok(self.find(name, attribute_type::TENSOR)?.and_then(|attribute| attribute.t.as_deref()))
    }

    /// Two extents, rows and columns, each at least 1; `default` where the attribute is absent. A `series` has columns only:
    /// its rows are 1.
    pub(super) fn pair(self, name: &str, series: bool, default: usize) -> Result<[usize; 2], String> {
        match (self.ints(name)?, series) {
            (None, false) => Ok([default; 2]),
            (None, true) => Ok([1, default]),
            (Some(&[rows, columns]), false) => Ok([extent(name, rows, 1)?, extent(name, columns, 1)?]),
            (Some(&[columns]), true) => Ok([1, extent(name, columns, 1)?]),
            (Some(other), _) => {
                let wanted = if series { 1 } else { 2 };
                Err(format!("attribute `{name}` has {} numbers, not {wanted}", other.len()))
            }
        }
    }

    fn find(self, name: &str, wanted: i32) -> Result<Option<&'a AttributeProto>, String> {
        let Some(found) = self.0.iter().find(|attribute| attribute.name.as_deref() == Some(name)) else {
            return Ok(None);
        };
        match found.r#type.unwrap_or_default() {
            0 => Ok(Some(found)),
            actual if actual == wanted => Ok(Some(found)),
            actual => Err(format!("attribute `{name}` is of type {actual}, not {wanted}")),
        }
    }
}

/// An attribute's number as an extent.
pub(super) fn extent(name: &str, value: i64, least: i64) -> Result<usize, String> {
    if value < least {
        return Err(format!("attribute `{name}` holds {value}, less than {least}"));
    }
    usize::try_from(value).map_err(|_| format!("attribute `{name}` holds {value}"))
}
