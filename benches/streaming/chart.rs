//! Draws one picture that shows the throughput, and the memory over time.

use std::error::Error;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::plan::{Cache, Contender, GIB, MIB, Work};
use super::results::{Results, Summary};
use super::trial::Run;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1200, 620);
const FONT: &str = "sans-serif";

/// Draws the copies. The left chart shows the throughput of each contender. The right chart shows the memory of the
/// cold copies over time.
pub fn draw(results: &Results, path: &Path) -> io::Result<()> {
    let drawn = draw_panels(results, path);
    drawn.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

fn draw_panels(results: &Results, path: &Path) -> Drawn {
    let picture = SVGBackend::new(path, SIZE).into_drawing_area();
    picture.fill(&WHITE)?;
    let (left, right) = picture.split_horizontally(SIZE.0 / 2);
    draw_throughput(results, &left)?;
    draw_memory(results, &right)?;
    picture.present()?;
    Ok(())
}

/// Returns the match to draw: the first match that is a copy, or the first match of all if none is a copy.
fn shown(results: &Results, cache: Cache) -> Vec<&Summary> {
    let ran = || results.0.iter().filter(|one| !one.runs.is_empty() && one.cache == cache);
    let first = ran().find(|one| one.work == Work::Copy).or_else(|| ran().next());
    ran().filter(|one| first.is_some_and(|first| first.same_match(one))).collect()
}

fn label(summary: &Summary) -> String {
    let name = summary.entry.contender.name();
    match summary.entry.chunk_bytes {
        0 => name.to_owned(),
        bytes => format!("{name}, {}", super::report::size(bytes)),
    }
}

fn color(contender: Contender) -> RGBColor {
    match contender {
        contender if contender.is_ours() => RGBColor(200, 60, 40),
        Contender::CpSync | Contender::DdDirect => RGBColor(110, 110, 110),
        Contender::MemmapAssign | Contender::MemmapEvict | Contender::ArrayViewReduce => {
            RGBColor(60, 140, 70)
        }
        contender if contender.is_numpy() => RGBColor(50, 100, 180),
        _ => RGBColor(160, 130, 60),
    }
}

fn draw_throughput(results: &Results, area: &Area) -> Drawn {
    let mut bars: Vec<(Option<&Summary>, String)> = Vec::new();
    for cache in [Cache::Cold, Cache::Warm] {
        let summaries = shown(results, cache);
        if let Some(first) = summaries.first() {
            bars.push((None, format!("{}, {}", first.work.name(), cache.name())));
        }
        bars.extend(summaries.into_iter().map(|summary| (Some(summary), label(summary))));
    }
    let fastest =
        bars.iter().filter_map(|(bar, _)| bar.as_ref()?.throughput()).fold(0.0, f64::max) / GIB as f64;
    area.draw(&Text::new("Throughput in GiB/s (medians, synced)", (20, 10), (FONT, 18).into_font()))?;
    let row_height = (SIZE.1 as i32 - 50) / bars.len().max(1) as i32;
    for (row, (summary, text)) in bars.iter().enumerate() {
        let top = 40 + row as i32 * row_height;
        draw_bar(area, *summary, text, (top, row_height.min(26)), fastest)?;
    }
    Ok(())
}

fn draw_bar(area: &Area, summary: Option<&Summary>, text: &str, row: (i32, i32), fastest: f64) -> Drawn {
    const BARS_START: i32 = 210;
    const BARS_WIDTH: f64 = 310.0;
    let (top, height) = row;
    let font_size = (height - 4).clamp(6, 14);
    let Some(summary) = summary else {
        area.draw(&Text::new(
            text.to_owned(),
            (20, top),
            (FONT, font_size + 1, FontStyle::Bold).into_font(),
        ))?;
        return Ok(());
    };
    area.draw(&Text::new(text.to_owned(), (30, top), (FONT, font_size).into_font()))?;
    let throughput = summary.throughput().unwrap_or(0.0) / GIB as f64;
    let end = BARS_START + (throughput / fastest * BARS_WIDTH) as i32;
    let fill = color(summary.entry.contender).filled();
    area.draw(&Rectangle::new([(BARS_START, top), (end, top + height - 3)], fill))?;
    area.draw(&Text::new(format!("{throughput:.2}"), (end + 5, top), (FONT, font_size).into_font()))?;
    Ok(())
}

/// Draws one line for each contender, from its median run.
fn draw_memory(results: &Results, area: &Area) -> Drawn {
    let lines = memory_lines(results);
    let runs: Vec<&Run> = lines.iter().filter_map(|summary| middle_run(summary)).collect();
    let longest = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.seconds).fold(0.1, f64::max);
    let highest = runs.iter().flat_map(|run| &run.samples).map(megabytes).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Memory and page cache in MiB over seconds (cold)", (FONT, 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(55)
        .build_cartesian_2d(0.0..longest, 0.0..highest * 1.05)?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    for (position, summary) in lines.iter().enumerate() {
        let Some(run) = middle_run(summary) else { continue };
        let style = Palette99::pick(position).stroke_width(2);
        let points = run.samples.iter().map(|sample| (sample.seconds, megabytes(sample)));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(label(summary))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    Ok(())
}

fn megabytes(sample: &super::sampler::Sample) -> f64 {
    sample.total_bytes() as f64 / MIB as f64
}

/// Returns each contender of the shown match once, at its fastest chunk size.
fn memory_lines(results: &Results) -> Vec<&Summary> {
    let mut lines: Vec<&Summary> = Vec::new();
    for summary in shown(results, Cache::Cold) {
        match lines.iter_mut().find(|other| other.entry.contender == summary.entry.contender) {
            Some(other) if summary.median_seconds() < other.median_seconds() => *other = summary,
            Some(_) => {}
            None => lines.push(summary),
        }
    }
    lines
}

fn middle_run(summary: &Summary) -> Option<&Run> {
    let mut runs: Vec<&Run> = summary.runs.iter().collect();
    runs.sort_by(|a, b| a.measured.seconds.total_cmp(&b.measured.seconds));
    runs.get(runs.len() / 2).copied()
}
