//! Draws the results of a run.

use std::path::Path;

use plotters::prelude::*;

use crate::figures::more_is_better;
use crate::peer::{Failure, Result};
use crate::results::{Results, Row, in_order};
use crate::table::{OURS, advantage, short};

const COLUMNS: usize = 3;
const PANEL_WIDTH: i32 = 420;
const LINE_HEIGHT: i32 = 18;
const TITLE_HEIGHT: i32 = 30;
const CHART_HEIGHT: i32 = 300;
/// Where the bars begin and end; their numbers stand behind.
const BARS: (i32, i32) = (125, 265);
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(160, 160, 160);
const BLUE: RGBColor = RGBColor(30, 100, 190);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws each table that the results hold into a file of its name.
pub fn draw(results: &Path, dir: &Path) -> Result<()> {
    let results = Results::load(results)?;
    std::fs::create_dir_all(dir)?;
    let tables: [(&str, i32, Panel); 2] =
        [("peers", bars_height(&results), bars), ("growth", CHART_HEIGHT, lines)];
    for (table, height, panel) in tables {
        let rows = results.of(table);
        if !rows.is_empty() {
            panels(&dir.join(format!("{table}.svg")), &rows, height, panel)?;
        }
    }
    Ok(())
}

/// Draws the rows of one work.
type Panel = fn(&Area<'_>, &str, &[&Row]) -> Result<()>;

fn panels(path: &Path, rows: &[&Row], height: i32, panel: Panel) -> Result<()> {
    let works = in_order(rows.iter().map(|row| row.work.as_str()));
    let lines = works.len().div_ceil(COLUMNS);
    let size = (PANEL_WIDTH as u32 * COLUMNS as u32, height as u32 * lines as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(failure)?;
    for (area, work) in root.split_evenly((lines, COLUMNS)).iter().zip(works) {
        let of_work: Vec<&Row> = rows.iter().copied().filter(|row| row.work == work).collect();
        panel(area, work, &of_work)?;
    }
    root.present().map_err(failure)
}

/// As much as the work with the most peers needs.
fn bars_height(results: &Results) -> i32 {
    let rows = results.of("peers");
    let peers = |work: &str| rows.iter().filter(|row| row.work == work).count();
    let most = rows.iter().map(|row| peers(&row.work)).max().unwrap_or(0);
    TITLE_HEIGHT + LINE_HEIGHT * (most as i32 + 1)
}

/// A bar for each peer, as long as its median, with the spread of the rounds as a line.
fn bars(area: &Area<'_>, work: &str, rows: &[&Row]) -> Result<()> {
    let unit = rows[0].unit.as_str();
    let direction = if more_is_better(unit) { "more" } else { "less" };
    title(area, &format!("{work}, {unit} ({direction} is better)"))?;
    let ours = rows.iter().find(|row| row.peer == OURS);
    let most = rows.iter().map(|row| row.most()).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| BARS.0 + (f64::from(BARS.1 - BARS.0) * value / most) as i32;
    for (line, row) in rows.iter().enumerate() {
        let top = TITLE_HEIGHT + line as i32 * LINE_HEIGHT;
        let color = if row.peer.starts_with(OURS) { BLUE } else { GREY };
        let bar = [(BARS.0, top), (x(row.median()).max(BARS.0 + 1), top + LINE_HEIGHT - 5)];
        let middle = top + (LINE_HEIGHT - 5) / 2;
        let spread = vec![(x(row.least()), middle), (x(row.most()), middle)];
        text(area, &row.peer, (8, top))?;
        area.draw(&Rectangle::new(bar, color.filled())).map_err(failure)?;
        area.draw(&PathElement::new(spread, BLACK)).map_err(failure)?;
        let ratio = ours.filter(|_| row.peer != OURS).and_then(|ours| advantage(ours, row));
        let ratio = ratio.map_or(String::new(), |ratio| format!(" ({}×)", short(ratio)));
        text(area, &format!("{}{ratio}", short(row.median())), (BARS.1 + 8, top))?;
    }
    Ok(())
}

/// A line for each peer over how much there was, both on a logarithmic scale.
fn lines(area: &Area<'_>, work: &str, rows: &[&Row]) -> Result<()> {
    let points = |row: &Row| row.x.map(|x| (x, row.median())).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let all: Vec<(f64, f64)> = rows.iter().filter_map(|row| points(row)).collect();
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        (least / 1.5..most * 1.5).log_scale()
    };
    if all.is_empty() {
        return Err(format!("{work}: a growth without sizes").into());
    }
    let (xs, ys) = (range(&mut all.iter().map(|p| p.0)), range(&mut all.iter().map(|p| p.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{work}, {}", rows[0].unit), (FONT, 14))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(xs, ys)
        .map_err(failure)?;
    let label = |value: &f64| short(*value);
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(6)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style((FONT, 11))
        .draw()
        .map_err(failure)?;
    for (number, peer) in in_order(rows.iter().map(|row| row.peer.as_str())).iter().enumerate() {
        let color = Palette99::pick(number);
        let mut line: Vec<(f64, f64)> =
            rows.iter().filter(|row| row.peer == *peer).filter_map(|row| points(row)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let dots = line.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(failure)?;
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line, style))
            .map_err(failure)?
            .label(*peer)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 11))
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(failure)
}

fn title(area: &Area<'_>, what: &str) -> Result<()> {
    let style = (FONT, 13).into_font().style(FontStyle::Bold);
    area.draw(&Text::new(what.to_owned(), (8, 8), style)).map_err(failure)
}

fn text(area: &Area<'_>, what: &str, at: (i32, i32)) -> Result<()> {
    area.draw(&Text::new(what.to_owned(), at, (FONT, 12).into_font())).map_err(failure)
}

fn failure(error: impl std::fmt::Display) -> Failure {
    error.to_string().into()
}
