//! One node: operands, shapes, windows and list lengths. The ids have been checked before.

use super::arithmetic::{check_add, check_logits, check_requantize, check_weights};
use super::{MAX_DIM, MAX_LAYER_WEIGHTS, MAX_TENSOR_CODES, Problem, count, in_range};
use crate::model::{Conv, Epilogue, Model, Node, Op, Shape, Tensor, Window};

/// Checks one node and returns its cost in multiply-accumulates (or window sums).
pub(super) fn check(model: &Model, node: &Node) -> Result<u64, Problem> {
    let inputs: Vec<&Tensor> = node.inputs.iter().map(|&id| model.tensor(id)).collect();
    let output = model.tensor(node.output);
    let per_code = output.shape.len() as u64;
    match (&node.op, inputs.as_slice()) {
        (Op::Conv(conv), [x]) => check_conv(conv, x, None, output),
        (Op::Conv(conv), [x, residual]) => check_conv(conv, x, Some(residual), output),
        (Op::Add(add), [a, b]) => {
            same_shape("first operand", a.shape, output.shape)?;
            same_shape("second operand", b.shape, output.shape)?;
            check_add(add, a, b, output).map(|()| per_code)
        }
        (Op::Affine(requantize), [x]) => {
            same_shape("output", output.shape, x.shape)?;
            let bounds = vec![greatest(x); x.shape.c as usize];
            check_requantize(requantize, &bounds, None, output).map(|()| per_code)
        }
        (Op::MaxPool(window), [x]) => {
            same_codes(x, output)?;
            check_pool(window, x, output)
        }
        (Op::AvgPool(window, requantize), [x]) => {
            let cost = check_pool(window, x, output)?;
            let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
            let bounds = vec![taps.saturating_mul(greatest(x)); x.shape.c as usize];
            check_requantize(requantize, &bounds, None, output).map(|()| cost)
        }
        (Op::Lut(table), [x]) => {
            same_shape("output", output.shape, x.shape)?;
            check_lut(table, x, output).map(|()| per_code)
        }
        (Op::Concat, parts @ [_, ..]) => check_concat(parts, output).map(|()| per_code),
        _ => Err(Problem::Rule("the wrong number of inputs for this operation")),
    }
}

/// Largest absolute value of a tensor's codes.
pub(super) fn greatest(tensor: &Tensor) -> u64 {
    let (lo, hi) = tensor.format.range();
    u64::from(lo.unsigned_abs().max(hi.unsigned_abs()))
}

fn same_shape(what: &'static str, actual: Shape, expected: Shape) -> Result<(), Problem> {
    if actual == expected { Ok(()) } else { Err(Problem::ShapeMismatch { what, expected, actual }) }
}

fn same_codes(x: &Tensor, output: &Tensor) -> Result<(), Problem> {
    if x.format == output.format && x.step == output.step {
        Ok(())
    } else {
        Err(Problem::Rule("input and output must share format and step"))
    }
}

fn check_conv(conv: &Conv, x: &Tensor, residual: Option<&Tensor>, output: &Tensor) -> Result<u64, Problem> {
    check_window(&conv.window, x, output)?;
    let (cin, filters, groups) = (x.shape.c, output.shape.c, conv.groups);
    if groups == 0 || cin % groups != 0 || filters % groups != 0 {
        return Err(Problem::Rule("groups must divide the input's and the output's channels"));
    }
    let taps = u64::from(conv.window.kernel[0]) * u64::from(conv.window.kernel[1]);
    let per_filter = taps * u64::from(cin / groups);
    let weights = per_filter * u64::from(filters);
    in_range("weights", weights.min(i64::MAX as u64) as i64, 1, MAX_LAYER_WEIGHTS as i64)?;
    count("weight codes", conv.weights.codes.len(), weights)?;
    count("bounds", conv.bounds.len(), filters.into())?;
    check_weights(&conv.weights, &conv.bounds, per_filter as usize, greatest(x))?;
    if let Some(residual) = residual {
        same_shape("residual operand", residual.shape, output.shape)?;
    }
    match &conv.epilogue {
        Epilogue::Requantize(requantize) => {
            let bounds: Vec<u64> = conv.bounds.iter().map(|&bound| bound.into()).collect();
            check_requantize(requantize, &bounds, residual, output)?;
        }
        Epilogue::Logits { shift, bias } => {
            if residual.is_some() {
                return Err(Problem::Rule("logits take no residual operand"));
            }
            check_logits(shift, bias, &conv.bounds)?;
        }
    }
    Ok(per_filter.saturating_mul(output.shape.len() as u64))
}

fn check_pool(window: &Window, x: &Tensor, output: &Tensor) -> Result<u64, Problem> {
    check_window(window, x, output)?;
    same_shape("output", output.shape, Shape { c: x.shape.c, ..output.shape })?;
    for (axis, (size, out)) in
        [(x.shape.h, output.shape.h), (x.shape.w, output.shape.w)].into_iter().enumerate()
    {
        if !(0..out).all(|position| touches_input(window, axis, position, size)) {
            return Err(Problem::Rule("a pool's window lies wholly in the padding"));
        }
    }
    let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
    Ok(taps.saturating_mul(output.shape.len() as u64))
}

/// Whether the window at this output position covers at least one position of the input along `axis`.
fn touches_input(window: &Window, axis: usize, position: u32, size: u32) -> bool {
    let start = i64::from(position) * i64::from(window.stride[axis]) - i64::from(window.padding[axis]);
    let dilation = i64::from(window.dilation[axis]);
    // The first tap at or after position 0.
    let tap = if start >= 0 { 0 } else { (-start + dilation - 1) / dilation };
    tap < i64::from(window.kernel[axis]) && start + tap * dilation < i64::from(size)
}

fn check_window(window: &Window, x: &Tensor, output: &Tensor) -> Result<(), Problem> {
    let max = i64::from(MAX_DIM);
    for axis in 0..2 {
        in_range("kernel", window.kernel[axis].into(), 1, max)?;
        in_range("stride", window.stride[axis].into(), 1, max)?;
        in_range("dilation", window.dilation[axis].into(), 1, max)?;
    }
    let mut padded = [u64::from(x.shape.h), u64::from(x.shape.w)];
    for (side, &amount) in window.padding.iter().enumerate() {
        in_range("padding", amount.into(), 0, max)?;
        padded[side % 2] += u64::from(amount);
    }
    let codes = padded[0] * padded[1] * u64::from(x.shape.c);
    in_range("codes in the padded input", codes as i64, 1, MAX_TENSOR_CODES as i64)?;
    let size = window.output([x.shape.h, x.shape.w]);
    let Some([h, w]) = size else {
        return Err(Problem::Rule("the window is larger than the padded input"));
    };
    let expected = Shape { h: h as u32, w: w as u32, c: output.shape.c };
    same_shape("output", output.shape, expected)
}

fn check_lut(table: &[i16], x: &Tensor, output: &Tensor) -> Result<(), Problem> {
    let (lo, hi) = x.format.range();
    count("table", table.len(), (hi - lo + 1) as u64)?;
    let (out_lo, out_hi) = output.format.range();
    for &entry in table {
        in_range("table entry", entry.into(), out_lo.into(), out_hi.into())?;
    }
    Ok(())
}

fn check_concat(parts: &[&Tensor], output: &Tensor) -> Result<(), Problem> {
    let mut channels = 0u64;
    for part in parts {
        same_codes(part, output)?;
        same_shape("operand", part.shape, Shape { c: part.shape.c, ..output.shape })?;
        channels += u64::from(part.shape.c);
    }
    in_range("channels of the operands", channels as i64, output.shape.c.into(), output.shape.c.into())
}
