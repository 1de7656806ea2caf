//! `quorate bench plot`: results as SVG files. Fail-overs and loads are drawn as the share of samples that took at the most so
//! long; growth as what one of many takes, against how many there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use plotters::prelude::*;

use super::failover::FailoverReport;
use super::figures::Report;
use super::growth::GrowthReport;
use super::saved::Saved;
use crate::settings::args::PlotArgs;

const SIZE: (u32, u32) = (800, 420);

/// Told apart by people who see few colours, too: blue, orange, green, grey.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 95, 185), RGBColor(220, 110, 0), RGBColor(0, 140, 90), RGBColor(110, 110, 110)];

/// A drawing with a line for each side.
#[derive(Debug, PartialEq)]
struct Plot {
    title: String,
    across: &'static str,
    up: &'static str,
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws a result; the files that were written.
pub fn draw(args: &PlotArgs) -> anyhow::Result<Vec<PathBuf>> {
    let plots = match Saved::read(&args.result)? {
        Saved::Load(report) => of_load(&report),
        Saved::Failover(report) => of_failover(&report),
        Saved::Growth(report) => of_growth(&report),
    };
    ensure!(!plots.is_empty(), "there is nothing to draw in {}", args.result.display());
    let folder = &args.output;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut drawn = Vec::new();
    for plot in plots {
        let path = folder.join(format!("{}.svg", file_name(&plot.title)));
        plot.draw(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        drawn.push(path);
    }
    Ok(drawn)
}

fn of_failover(report: &FailoverReport) -> Vec<Plot> {
    let mut plots = BTreeMap::<String, Vec<Line>>::new();
    for series in &report.results {
        let line = Line { name: series.side.clone(), points: shares(series.sorted()) };
        plots.entry(format!("Without a leader: {}", series.fault)).or_default().push(line);
    }
    plots.into_iter().map(|(title, lines)| shares_plot(title, lines)).collect()
}

fn of_load(report: &Report) -> Vec<Plot> {
    let rows = report.results.iter();
    rows.map(|row| {
        let lines = row.sides().map(|(name, side)| {
            let mut samples: Vec<_> = side.rounds.iter().flat_map(|round| round.samples_us.iter().copied()).collect();
            samples.sort_unstable();
            let name = format!("{name}, {:.0} a second", side.median.per_second);
            Line { name, points: shares(samples) }
        });
        shares_plot(row.workload.clone(), lines.collect())
    })
    .collect()
}

fn of_growth(report: &GrowthReport) -> Vec<Plot> {
    let mut kinds = BTreeMap::<&str, (Vec<_>, Vec<_>)>::new();
    for size in &report.results {
        let (p50, p99) = kinds.entry(&size.what).or_default();
        let (count, [half, most]) = (float(size.count), [size.asked.p50_us, size.asked.p99_us].map(millis));
        p50.push((count, half));
        p99.push((count, most));
    }
    let plot = |(what, (p50, p99)): (&str, _)| Plot {
        title: what.to_owned(),
        across: "there are so many",
        up: "ms",
        lines: vec![Line { name: "p50".to_owned(), points: p50 }, Line { name: "p99".to_owned(), points: p99 }],
    };
    kinds.into_iter().map(plot).collect()
}

fn shares_plot(title: String, lines: Vec<Line>) -> Plot {
    Plot { title, across: "at most so many ms", up: "% of the samples", lines }
}

/// For each sample, the share of samples that are not greater, in percent.
fn shares(sorted: Vec<u64>) -> Vec<(f64, f64)> {
    let all = float(sorted.len());
    let shares = sorted.into_iter().enumerate();
    shares.map(|(index, us)| (millis(us), 100.0 * float(index + 1) / all)).collect()
}

/// A logarithmic axis begins above nothing: what takes no microsecond counts as one.
fn millis(us: u64) -> f64 {
    f64::from(u32::try_from(us.max(1)).unwrap_or(u32::MAX)) / 1000.0
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A title in small letters and digits, with dashes for everything between them.
fn file_name(title: &str) -> String {
    let words = title.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

impl Plot {
    fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (least, most) = points().fold((f64::MAX, f64::MIN), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
        let top = points().fold(0.0_f64, |top, (_, y)| top.max(*y));
        // A range of a single point would have no length.
        let across = (least * 0.9..most * 1.1).log_scale();
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(across, 0.0..top * 1.02)?;
        chart.configure_mesh().x_desc(self.across).y_desc(self.up).light_line_style(TRANSPARENT).draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_stands_at_the_share_of_those_that_are_not_greater() {
        assert_eq!(shares(vec![1_000, 2_000, 2_000, 4_000]), [(1.0, 25.0), (2.0, 50.0), (2.0, 75.0), (4.0, 100.0)]);
        assert_eq!(shares(vec![0]), [(0.001, 100.0)]);
        assert!(shares(vec![]).is_empty());
    }

    #[test]
    fn a_title_becomes_a_name_that_every_file_system_takes() {
        assert_eq!(file_name("Without a leader: killed (SIGKILL)"), "without-a-leader-killed-sigkill");
        assert_eq!(file_name("a write's, 64 bytes"), "a-write-s-64-bytes");
    }

    #[test]
    fn a_drawing_has_its_title_and_a_line_for_each_side() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.to_owned(), points: points.to_vec() };
        let lines = vec![line("Quorate", &[(1.0, 50.0), (3.0, 100.0)]), line("etcd", &[(20.0, 100.0)])];
        let plot = shares_plot("A crash".to_owned(), lines);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-crash.svg");
        plot.draw(&path).unwrap();
        let svg = fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for wanted in ["A crash", "Quorate", "etcd", "<polyline"] {
            assert!(svg.contains(wanted), "{wanted} is not in {svg}");
        }
    }
}
