//! The operators that are read, and which of their versions: the one table.
//!
//! ONNX numbers a whole operator set, but an operator keeps its meaning until its own next version. So a node is judged by its
//! operator's version, and a version stands here only if its meaning is what the importer makes of it. A test holds the table to
//! the `onnx` package's schemas: every version from the oldest opset to the newest, every attribute.

use crate::onnx::NodeProto;

/// The oldest and newest version of ONNX's operator set whose operators are known.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=28;

/// One operator that is read.
#[derive(Debug, Clone, Copy)]
pub struct Operator {
    /// As in the ONNX specification.
    pub name: &'static str,
    /// Versions by the opset that brought them, ascending; the first is the one that opset 13 has, if it has
    /// one.
    pub versions: &'static [Version],
    /// All attributes that any of the versions has.
    pub attributes: &'static [Attribute],
}

/// One version of an operator.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// The opset that brought it.
    pub since: i64,
    /// What is new in it, and why that is read rightly.
    pub change: &'static str,
}

/// An attribute and the versions that have it.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// The first version of the operator that has it.
    pub since: i64,
    /// The last one.
    pub until: i64,
}

impl Operator {
    /// The operator of this name in ONNX's own domain, if it is read.
    pub fn find(name: &str) -> Option<&'static Self> {
        OPERATORS.iter().find(|operator| operator.name == name)
    }

    /// A node's operator, if it is read.
    pub(super) fn of(node: &NodeProto) -> Option<&'static Self> {
        let own = matches!(node.domain.as_deref().unwrap_or_default(), "" | "ai.onnx");
        own.then(|| Self::find(node.op_type.as_deref().unwrap_or_default())).flatten()
    }

    /// Its version in an opset of [`OPSETS`]; 0 if it came later.
    pub fn version(&self, opset: i64) -> i64 {
        let known = self.versions.iter().map(|version| version.since);
        known.filter(|&since| since <= opset).max().unwrap_or_default()
    }

    /// Whether the version in an opset has the attribute.
    pub fn has_attribute(&self, opset: i64, name: &str) -> bool {
        let version = self.version(opset);
        self.attributes
            .iter()
            .any(|known| known.name == name && (known.since..=known.until).contains(&version))
    }
}

const fn new(name: &'static str, versions: &'static [Version], attributes: &'static [Attribute]) -> Operator {
    Operator { name, versions, attributes }
}

const fn at(since: i64, change: &'static str) -> Version {
    Version { since, change }
}

const fn always(name: &'static str) -> Attribute {
    Attribute { name, since: 0, until: i64::MAX }
}

const fn since(name: &'static str, since: i64) -> Attribute {
    Attribute { name, since, until: i64::MAX }
}

const fn until(name: &'static str, until: i64) -> Attribute {
    Attribute { name, since: 0, until }
}

/// The version that opset 13 has: the meaning that the importer began with.
const FIRST: &str = "the meaning in opset 13";
/// Floats, 32- and 64-bit integers and booleans are read; everything else is refused where it occurs.
const TYPES: &str = "more element types, which are refused where they occur";
const WORDING: &str = "the same, in other words";

/// Only element types have changed since opset 13.
const UNCHANGED: &[Version] = &[at(13, FIRST)];
const SINCE_14: &[Version] = &[at(13, FIRST), at(14, TYPES)];
const SINCE_21: &[Version] = &[at(13, FIRST), at(21, TYPES), at(23, TYPES), at(24, TYPES), at(25, TYPES)];
const SINCE_22: &[Version] = &[at(1, FIRST), at(22, TYPES)];

/// An axis list that became an operand, and what no axes mean.
const REDUCTION: &[Version] = &[
    at(13, FIRST),
    at(18, "`axes` is an operand, and `noop_with_empty_axes` says what none means: both forms are read"),
];
const REDUCTION_ATTRIBUTES: &[Attribute] =
    &[until("axes", 17), always("keepdims"), since("noop_with_empty_axes", 18)];

/// Every operator that is read.
pub const OPERATORS: &[Operator] = &[
    new("Add", SINCE_14, &[]),
    new(
        "AveragePool",
        &[
            at(11, FIRST),
            at(19, "`dilations`, which the window carries; the output's extents are those of version 11"),
            at(22, "windows that would start in the padding behind are left out, as they were"),
        ],
        &[
            always("auto_pad"),
            always("ceil_mode"),
            always("count_include_pad"),
            since("dilations", 19),
            always("kernel_shape"),
            always("pads"),
            always("strides"),
        ],
    ),
    new(
        "BatchNormalization",
        &[
            at(9, "training is told by further outputs, which are refused"),
            at(14, "`training_mode` tells training, which is refused"),
            at(15, TYPES),
        ],
        &[always("epsilon"), always("momentum"), since("training_mode", 14)],
    ),
    new(
        "Cast",
        &[
            at(13, FIRST),
            at(19, "`saturate` is for 8-bit floats, to which no cast is read"),
            at(21, TYPES),
            at(23, TYPES),
            at(24, "`round_mode` is for 8-bit floats, to which no cast is read"),
            at(25, TYPES),
            at(28, TYPES),
        ],
        &[since("round_mode", 24), since("saturate", 19), always("to")],
    ),
    new("Clip", UNCHANGED, &[]),
    new("Concat", UNCHANGED, &[always("axis")]),
    new(
        "Constant",
        &[at(13, FIRST), at(19, TYPES), at(21, TYPES), at(23, TYPES), at(24, TYPES), at(25, TYPES)],
        &[
            always("sparse_value"),
            always("value"),
            always("value_float"),
            always("value_floats"),
            always("value_int"),
            always("value_ints"),
            always("value_string"),
            always("value_strings"),
        ],
    ),
    new(
        "ConstantOfShape",
        &[at(9, FIRST), at(20, TYPES), at(21, TYPES), at(23, TYPES), at(24, TYPES), at(25, TYPES)],
        &[always("value")],
    ),
    new(
        "Conv",
        &[at(11, FIRST), at(22, TYPES)],
        &[
            always("auto_pad"),
            always("dilations"),
            always("group"),
            always("kernel_shape"),
            always("pads"),
            always("strides"),
        ],
    ),
    new("Div", SINCE_14, &[]),
    new("Dropout", &[at(13, FIRST), at(22, WORDING)], &[always("seed")]),
    new("Elu", &[at(6, FIRST), at(22, TYPES)], &[always("alpha")]),
    new("Erf", UNCHANGED, &[]),
    new("Flatten", SINCE_21, &[always("axis")]),
    new("Gather", UNCHANGED, &[always("axis")]),
    new("Gelu", &[at(20, "the operator is new")], &[always("approximate")]),
    new("Gemm", UNCHANGED, &[always("alpha"), always("beta"), always("transA"), always("transB")]),
    new("GlobalAveragePool", SINCE_22, &[]),
    new("GlobalMaxPool", SINCE_22, &[]),
    new("HardSigmoid", &[at(6, FIRST), at(22, TYPES)], &[always("alpha"), always("beta")]),
    new("HardSwish", &[at(14, "the operator is new"), at(22, TYPES)], &[]),
    new(
        "Identity",
        &[
            at(13, FIRST),
            at(14, TYPES),
            at(16, TYPES),
            at(19, TYPES),
            at(21, TYPES),
            at(23, TYPES),
            at(24, TYPES),
            at(25, TYPES),
        ],
        &[],
    ),
    new("LeakyRelu", &[at(6, FIRST), at(16, TYPES)], &[always("alpha")]),
    new("LogSoftmax", UNCHANGED, &[always("axis")]),
    new("MatMul", UNCHANGED, &[]),
    new("Max", UNCHANGED, &[]),
    new(
        "MaxPool",
        &[at(12, FIRST), at(22, "windows that would start in the padding behind are left out, as they were")],
        &[
            always("auto_pad"),
            always("ceil_mode"),
            always("dilations"),
            always("kernel_shape"),
            always("pads"),
            always("storage_order"),
            always("strides"),
        ],
    ),
    new("Min", UNCHANGED, &[]),
    new("Mul", SINCE_14, &[]),
    new("PRelu", &[at(9, FIRST), at(16, TYPES)], &[]),
    new(
        "Pad",
        &[
            at(13, FIRST),
            at(18, "`axes`, which is read"),
            at(19, "mode `wrap`, which is refused like all but `constant`"),
            at(21, TYPES),
            at(23, TYPES),
            at(24, TYPES),
            at(25, TYPES),
        ],
        &[always("mode")],
    ),
    new("Pow", &[at(13, FIRST), at(15, TYPES)], &[]),
    new(
        "ReduceMax",
        &[
            at(13, FIRST),
            at(
                18,
                "`axes` is an operand, and `noop_with_empty_axes` says what none means: both forms are read",
            ),
            at(20, TYPES),
        ],
        REDUCTION_ATTRIBUTES,
    ),
    new("ReduceMean", REDUCTION, REDUCTION_ATTRIBUTES),
    new("ReduceProd", REDUCTION, REDUCTION_ATTRIBUTES),
    new("Relu", SINCE_14, &[]),
    new(
        "Reshape",
        &[
            at(13, FIRST),
            at(14, "`allowzero`, which is read"),
            at(19, TYPES),
            at(21, TYPES),
            at(23, TYPES),
            at(24, TYPES),
            at(25, TYPES),
        ],
        &[since("allowzero", 14)],
    ),
    new(
        "Resize",
        &[
            at(13, FIRST),
            at(
                18,
                "`antialias` and `keep_aspect_ratio_policy`, which are refused, and `axes`, which is read",
            ),
            at(19, "`half_pixel_symmetric`, which for whole factors is `half_pixel`"),
        ],
        &[
            since("antialias", 18),
            since("axes", 18),
            always("coordinate_transformation_mode"),
            always("cubic_coeff_a"),
            always("exclude_outside"),
            always("extrapolation_value"),
            since("keep_aspect_ratio_policy", 18),
            always("mode"),
            always("nearest_mode"),
        ],
    ),
    new(
        "Shape",
        &[
            at(13, FIRST),
            at(15, "`start` and `end`, which are read"),
            at(19, TYPES),
            at(21, TYPES),
            at(23, TYPES),
            at(24, TYPES),
            at(25, TYPES),
        ],
        &[since("end", 15), since("start", 15)],
    ),
    new("Sigmoid", UNCHANGED, &[]),
    new("Slice", UNCHANGED, &[]),
    new("Softmax", UNCHANGED, &[always("axis")]),
    new(
        "Split",
        &[at(13, FIRST), at(18, "`num_outputs`, of which the last part may be smaller, which is read")],
        &[always("axis"), since("num_outputs", 18)],
    ),
    new("Squeeze", SINCE_21, &[]),
    new("Sub", SINCE_14, &[]),
    new("Swish", &[at(24, "the operator is new")], &[always("alpha")]),
    new("Tanh", UNCHANGED, &[]),
    new("Transpose", SINCE_21, &[always("perm")]),
    new("Unsqueeze", SINCE_21, &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_lasts_until_the_next() {
        let pool = Operator::find("AveragePool").unwrap();
        assert_eq!([13, 18, 19, 21, 22, 28].map(|opset| pool.version(opset)), [11, 11, 19, 19, 22, 22]);
        assert!(!pool.has_attribute(18, "dilations") && pool.has_attribute(19, "dilations"));
        let mean = Operator::find("ReduceMean").unwrap();
        assert!(mean.has_attribute(17, "axes") && !mean.has_attribute(18, "axes"));
        assert!(Operator::find("Mish").is_none());
        assert_eq!([13, 19, 20].map(|opset| Operator::find("Gelu").unwrap().version(opset)), [0, 0, 20]);
    }
}
