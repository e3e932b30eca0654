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

/// Most points of a curve that are marked one by one.
const MARKED: usize = 32;

/// A box of values: what is drawn, and what its axes are labelled with.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    low: f64,
    high: f64,
    /// Every value is the same; it stands in the middle.
    single: bool,
}

impl Span {
    fn of(values: &[f64]) -> Option<Self> {
        let (low, high) = range(values)?;
        let single = high <= low;
        let (low, high) = if single { (low - 0.5, high + 0.5) } else { (low, high) };
        Some(Span { low, high, single })
    }

    /// Where a value stands, 0 to 1.
    fn part(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Labels of the beginning, the middle and the end: values that occur.
    fn labels(self) -> [String; 3] {
        if self.single {
            return [String::new(), number(self.low.midpoint(self.high)), String::new()];
        }
        [number(self.low), String::new(), number(self.high)]
    }
}

/// The smallest spans that hold every finite point of every curve, left to right and bottom to top.
fn bounds(curves: &[Curve]) -> Option<(Span, Span)> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let points: Vec<(f64, f64)> =
        curves.iter().flat_map(|c| c.points.iter().filter(finite)).copied().collect();
    let across = Span::of(&points.iter().map(|p| p.0).collect::<Vec<_>>())?;
    let up = Span::of(&points.iter().map(|p| p.1).collect::<Vec<_>>())?;
    Some((across, up))
}

/// A plot `columns` × `rows` characters large, each a field of 2 × 4 dots, with axes and a legend below.
pub(crate) fn braille(curves: &[Curve], columns: usize, rows: usize, paint: Painter) -> String {
    let Some((across, up)) = bounds(curves) else { return String::from("no points\n") };
    let mut owner = vec![None; columns * rows];
    let mut dots = vec![0u8; columns * rows];
    let (wide, tall) = (columns * 2 - 1, rows * 4 - 1);
    for (index, curve) in curves.iter().enumerate() {
        let place = |p: &(f64, f64)| {
            let x = across.part(p.0) * wide as f64;
            let y = (1.0 - up.part(p.1)) * tall as f64;
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
        for pair in points.windows(2) {
            line(pair[0], pair[1], &mut mark);
        }
        // A few points are seen as such: a cross each, as far as it lies inside.
        for &(x, y) in points.iter().filter(|_| points.len() <= MARKED) {
            for (dx, dy) in [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] {
                if (0..=wide as i64).contains(&(x + dx)) && (0..=tall as i64).contains(&(y + dy)) {
                    mark(x + dx, y + dy);
                }
            }
        }
    }
    let labels = up.labels();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..rows {
        let label = match row {
            0 => &labels[2],
            _ if row + 1 == rows => &labels[0],
            _ if row == rows / 2 => &labels[1],
            _ => "",
        };
        text.push_str(&paint.dim(&format!("{label:>margin$} │")));
        for cell in row * columns..(row + 1) * columns {
            let c = char::from_u32(0x2800 + u32::from(dots[cell])).unwrap_or(' ').to_string();
            text.push_str(&owner[cell].map_or_else(|| " ".to_owned(), |index| coloured(paint, index, &c)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let [left, middle, right] = across.labels();
    let third = columns / 3;
    let span = format!("{left:<third$}{middle:^rest$}{right:>third$}", rest = columns - 2 * third);
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
    let nothing = Span { low: 0.0, high: 1.0, single: false };
    let (across, up) = bounds(curves).unwrap_or((nothing, nothing));
    let place = |p: &(f64, f64)| (70.0 + across.part(p.0) * 700.0, 340.0 - up.part(p.1) * 300.0);
    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 400\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"800\" height=\"400\" fill=\"white\"/>\n\
         <path d=\"M70 40V340H770\" fill=\"none\" stroke=\"#adb5bd\"/>\n",
    );
    let _ = writeln!(text, "<text x=\"70\" y=\"24\" font-size=\"15\">{}</text>", escape(title));
    let beside = [344, 194, 44].into_iter().map(|y| (62, y, "end")).zip(up.labels());
    let below =
        [(70, 358, "start"), (420, 358, "middle"), (770, 358, "end")].into_iter().zip(across.labels());
    for ((x, y, anchor), label) in beside.chain(below).filter(|(_, label)| !label.is_empty()) {
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>");
    }
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let finite = curve.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
        let points: Vec<(f64, f64)> = finite.map(place).collect();
        for (x, y) in points.iter().filter(|_| points.len() <= MARKED) {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
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
    fn one_value_is_labelled_with_itself_and_can_be_seen() {
        let one = Curve { label: "a".into(), points: vec![(1.0, 0.627)] };
        let text = braille(std::slice::from_ref(&one), 32, 7, Painter::new(false));
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[3].starts_with("0.6270 │"), "{text}");
        assert!(rows[8].trim() == "1" && !text.contains("0.5000") && !text.contains("1.127"), "{text}");
        let dots: u32 = text
            .chars()
            .filter(|c| ('\u{2801}'..='\u{28ff}').contains(c))
            .map(|c| (c as u32 - 0x2800).count_ones())
            .sum();
        assert_eq!(dots, 5, "{text}");
        let text = svg("t", &[one]);
        assert!(
            text.contains("<circle cx=\"420.0\" cy=\"190.0\"") && text.contains(">0.6270</text>"),
            "{text}"
        );
        // In a corner the cross is cut, and a level line has one label.
        let two = Curve { label: "b".into(), points: vec![(1.0, 2.0), (2.0, 2.0)] };
        let text = braille(&[two], 8, 4, Painter::new(false));
        assert!(text.lines().nth(2).is_some_and(|row| row.starts_with("2 │")), "{text}");
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
