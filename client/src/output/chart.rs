//! Curves in a terminal: one line of blocks, or a field of braille dots with axes.

use std::fmt::Write;

use super::style::Painter;
use super::units::number;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// At most `columns` blocks, from the smallest to the largest value; gaps where a value is not finite.
pub(crate) fn sparkline(values: &[f64], columns: usize) -> String {
    let values = thin(values, columns);
    let Some((low, high)) = range(&values) else { return String::new() };
    let block = |v: f64| {
        if !v.is_finite() {
            return ' ';
        }
        let t = if high > low { (v - low) / (high - low) } else { 0.5 };
        BLOCKS[((t * 7.0).round() as usize).min(7)]
    };
    values.iter().map(|&v| block(v)).collect()
}

/// Every so many-th value, with the last one always among them.
fn thin(values: &[f64], most: usize) -> Vec<f64> {
    let n = values.len();
    if n <= most || most < 2 {
        return values.to_vec();
    }
    (0..most).map(|i| values[i * (n - 1) / (most - 1)]).collect()
}

/// Smallest and largest finite value.
fn range(values: &[f64]) -> Option<(f64, f64)> {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    finite.fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    })
}

/// One curve: a label and points (x, y).
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The smallest box that holds every finite point of every curve, never of zero size.
pub(crate) fn bounds(curves: &[Curve]) -> Option<[f64; 4]> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let points: Vec<(f64, f64)> =
        curves.iter().flat_map(|c| c.points.iter().filter(finite)).copied().collect();
    let (left, right) = range(&points.iter().map(|p| p.0).collect::<Vec<_>>())?;
    let (low, high) = range(&points.iter().map(|p| p.1).collect::<Vec<_>>())?;
    let widen = |a: f64, b: f64| if b > a { (a, b) } else { (a - 0.5, a + 0.5) };
    let ((left, right), (low, high)) = (widen(left, right), widen(low, high));
    Some([left, right, low, high])
}

/// A plot `columns` × `rows` characters large, each a field of 2 × 4 dots, with axes and a legend below.
pub(crate) fn braille(curves: &[Curve], columns: usize, rows: usize, paint: Painter) -> String {
    let Some([left, right, low, high]) = bounds(curves) else { return String::from("no points\n") };
    let mut owner = vec![None; columns * rows];
    let mut dots = vec![0u8; columns * rows];
    let (wide, tall) = (columns * 2 - 1, rows * 4 - 1);
    for (index, curve) in curves.iter().enumerate() {
        let place = |p: &(f64, f64)| {
            let x = (p.0 - left) / (right - left) * wide as f64;
            let y = (high - p.1) / (high - low) * tall as f64;
            (x.round() as i64, y.round() as i64)
        };
        let points: Vec<_> =
            curve.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).map(place).collect();
        let mut mark = |x: i64, y: i64| {
            let (x, y) = (x as usize, y as usize);
            let cell = y / 4 * columns + x / 2;
            dots[cell] |= dot(x % 2, y % 4);
            owner[cell] = Some(index);
        };
        if let [(x, y)] = points[..] {
            mark(x, y);
        }
        for pair in points.windows(2) {
            line(pair[0], pair[1], &mut mark);
        }
    }
    let labels = [number(high), number(low)];
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..rows {
        let label = if row == 0 {
            &labels[0]
        } else if row + 1 == rows {
            &labels[1]
        } else {
            ""
        };
        text.push_str(&paint.dim(&format!("{label:>margin$} │")));
        for cell in row * columns..(row + 1) * columns {
            let c = char::from_u32(0x2800 + u32::from(dots[cell])).unwrap_or(' ').to_string();
            text.push_str(&owner[cell].map_or_else(|| " ".to_owned(), |index| coloured(paint, index, &c)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let span = format!(
        "{:<half$}{:>rest$}",
        number(left),
        number(right),
        half = columns / 2,
        rest = columns - columns / 2
    );
    text.push_str(&paint.dim(&format!("{:margin$} └{}\n{:margin$}  {span}\n", "", "─".repeat(columns), "")));
    for (index, curve) in curves.iter().enumerate() {
        let _ = writeln!(text, "{:margin$}  {} {}", "", coloured(paint, index, "━━"), curve.label);
    }
    text
}

fn coloured(paint: Painter, index: usize, text: &str) -> String {
    match index % 4 {
        0 => paint.busy(text),
        1 => paint.warn(text),
        2 => paint.good(text),
        _ => paint.strong(text),
    }
}

/// Bit of the dot at (x, y) in a braille character.
fn dot(x: usize, y: usize) -> u8 {
    [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]][y][x]
}

/// Bresenham's line.
fn line(from: (i64, i64), to: (i64, i64), mark: &mut impl FnMut(i64, i64)) {
    let (dx, dy) = ((to.0 - from.0).abs(), -(to.1 - from.1).abs());
    let (sx, sy) = ((to.0 - from.0).signum(), (to.1 - from.1).signum());
    let (mut x, mut y) = from;
    let mut error = dx + dy;
    loop {
        mark(x, y);
        if (x, y) == to {
            return;
        }
        let twice = 2 * error;
        if twice >= dy {
            error += dy;
            x += sx;
        }
        if twice <= dx {
            error += dx;
            y += sy;
        }
    }
}

/// The same plot as an SVG file, 800 × 400, black on white, readable alone.
pub(crate) fn svg(title: &str, curves: &[Curve]) -> String {
    const COLOURS: [&str; 6] = ["#0b7285", "#d9480f", "#2b8a3e", "#5f3dc4", "#a61e4d", "#495057"];
    let [left, right, low, high] = bounds(curves).unwrap_or([0.0, 1.0, 0.0, 1.0]);
    let place = |p: &(f64, f64)| {
        let (x, y) = ((p.0 - left) / (right - left), (high - p.1) / (high - low));
        format!("{:.1},{:.1}", 70.0 + x * 700.0, 40.0 + y * 300.0)
    };
    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 400\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"800\" height=\"400\" fill=\"white\"/>\n\
         <path d=\"M70 40V340H770\" fill=\"none\" stroke=\"#adb5bd\"/>\n",
    );
    let _ = writeln!(text, "<text x=\"70\" y=\"24\" font-size=\"15\">{}</text>", escape(title));
    let ends =
        [(62, 44, "end", high), (62, 344, "end", low), (70, 358, "start", left), (770, 358, "end", right)];
    for (x, y, anchor, v) in ends {
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", number(v));
    }
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let finite = curve.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
        let points: Vec<String> = finite.map(place).collect();
        let _ = write!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n\
             <text x=\"{}\" y=\"384\" fill=\"{colour}\">{}</text>\n",
            points.join(" "),
            70 + index * 700 / curves.len().max(1),
            escape(&curve.label)
        );
    }
    text.push_str("</svg>\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_runs_from_low_to_high_and_keeps_the_last_value() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 7.0], 10), "▁▂▃█");
        assert_eq!(sparkline(&[1.0, f64::NAN, 1.0], 10), "▅ ▅");
        let long: Vec<f64> = (0..1000).map(f64::from).collect();
        let line = sparkline(&long, 20);
        assert_eq!((line.chars().count(), line.chars().last()), (20, Some('█')));
        assert_eq!(sparkline(&[], 10), "");
    }

    #[test]
    fn a_rising_line_goes_from_the_bottom_left_to_the_top_right() {
        let curve = Curve { label: "up".into(), points: vec![(0.0, 0.0), (1.0, 1.0)] };
        let text = braille(&[curve], 8, 4, Painter::new(false));
        let rows: Vec<&str> = text.lines().collect();
        let drawn = |row: &str| row.chars().last().is_some_and(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        assert!(rows[0].starts_with("1 │") && drawn(rows[0]), "{text}");
        assert!(rows[3].starts_with("0 │") && !rows[3].ends_with('│'), "{text}");
        assert!(text.contains("up"));
    }

    #[test]
    fn curves_without_points_or_with_one_do_not_fail() {
        let none = Curve { label: String::new(), points: vec![(0.0, f64::NAN)] };
        assert_eq!(braille(&[none], 8, 4, Painter::new(false)), "no points\n");
        let one = Curve { label: "a".into(), points: vec![(3.0, 2.0)] };
        assert!(braille(std::slice::from_ref(&one), 8, 4, Painter::new(false)).contains("a\n"));
        assert!(svg("<t>", &[one]).contains("&lt;t&gt;"));
    }
}
