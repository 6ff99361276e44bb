//! The plot of load time against slots, as SVG.

use std::ops::Range;

use anyhow::{Result, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{Figures, Loader};

const SIZE: (u32, u32) = (760, 420);

/// Readable on white and on black, as the lines are.
const TEXT: RGBColor = RGBColor(128, 134, 143);
const GRID: RGBAColor = RGBAColor(128, 134, 143, 0.25);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One line of the plot.
struct Line {
    name: &'static str,
    colour: RGBColor,
    /// Slots and milliseconds, by slots.
    points: Vec<(f64, f64)>,
    /// So that a line shows on which it lies.
    dashed: bool,
}

impl Line {
    fn slots(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(slots, _)| *slots)
    }
}

/// Draws the objects `slots-N` on logarithmic axes.
pub(crate) fn svg(figures: &Figures) -> Result<String> {
    let lines = [
        (Loader::Libbpf, RGBColor(214, 109, 42)),
        (Loader::Aya, RGBColor(150, 120, 214)),
        (Loader::Bpfplan, RGBColor(34, 148, 120)),
    ]
    .map(|(loader, colour)| Line {
        name: loader.name(),
        colour,
        points: points(figures, loader),
        dashed: loader == Loader::Aya,
    });
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let slots = all().map(|(slots, _)| slots);
    let (least, most) = (
        slots.clone().fold(f64::MAX, f64::min),
        slots.fold(0.0, f64::max),
    );
    if least >= most {
        bail!("there are fewer than two objects `slots-N` to draw");
    }
    let times = all().map(|(_, ms)| ms);
    let (fast, slow) = (
        times.clone().fold(f64::MAX, f64::min),
        times.fold(0.0, f64::max),
    );
    let mut text = String::new();
    draw(
        &mut text,
        &lines,
        least..most,
        10_f64.powf(fast.log10().floor())..10_f64.powf(slow.log10().ceil()),
    )
    .map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(text)
}

fn points(figures: &Figures, loader: Loader) -> Vec<(f64, f64)> {
    let objects = figures.objects.iter();
    let objects = objects.filter(|object| object.name.starts_with("slots-"));
    let mut points: Vec<(f64, f64)> = objects
        .filter_map(|object| Some((f64::from(object.slots()?), object.median_ms(loader)?)))
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

fn draw(
    text: &mut String,
    lines: &[Line],
    slots: Range<f64>,
    milliseconds: Range<f64>,
) -> Drawn<()> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let font = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
    let mut ticks: Vec<f64> = lines.iter().flat_map(Line::slots).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    // The same room on both sides of the points.
    let beside = 10_f64.powf((slots.end / slots.start).log10() * 0.02);
    let slots = (slots.start / beside..slots.end * beside)
        .log_scale()
        .with_key_points(ticks);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(86)
        .x_label_area_size(50)
        .y_label_area_size(76)
        .build_cartesian_2d(slots, milliseconds.log_scale())?;
    chart
        .configure_mesh()
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(7)
        .label_style(font(14))
        .axis_desc_style(font(15))
        .x_desc("filled slots of a map of maps")
        .y_desc("time from the object to filled maps")
        .x_label_formatter(&|slots| format!("{slots:.0}"))
        .y_label_formatter(&|ms| time(*ms))
        .draw()?;
    let mut labels = Vec::new();
    for line in lines {
        let style = line.colour.stroke_width(2);
        let points = line.points.iter().copied();
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?;
        } else {
            chart.draw_series(LineSeries::new(points, style))?;
        }
        let dots = line.points.iter();
        chart.draw_series(dots.map(|point| Circle::new(*point, 4, line.colour.filled())))?;
        if let Some(last) = line.points.last() {
            labels.push((chart.backend_coord(last), line));
        }
    }
    drop(chart);
    label(&area, labels)?;
    area.present()
}

/// Writes the lines' names beside their last points, one below the other where these are close.
fn label(area: &Area<'_>, mut labels: Vec<((i32, i32), &Line)>) -> Drawn<()> {
    const HEIGHT: i32 = 18;
    labels.sort_by_key(|((_, y), _)| *y);
    let mut next = i32::MIN;
    for ((x, y), line) in labels {
        let y = next.max(y);
        next = y.saturating_add(HEIGHT);
        let style = ("sans-serif", 15).into_font().color(&line.colour);
        let style = style.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(line.name, (x + 12, y), style))?;
    }
    Ok(())
}

/// A power of ten of milliseconds.
fn time(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms} ms")
    } else {
        format!("{} s", ms / 1000.0)
    }
}
