//! Rows of numbers under names, written down as they come, and what they say as a whole.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A table whose first column is the time in seconds since the beginning.
pub struct Series {
    names: Vec<String>,
    rows: Vec<Vec<f64>>,
    file: File,
}

impl Series {
    /// Begins the file anew.
    pub fn begin(path: &Path, names: Vec<String>) -> std::io::Result<Series> {
        let mut file = File::create(path)?;
        writeln!(file, "seconds,{},error_kinds", names.join(","))?;
        Ok(Series { names: std::iter::once("seconds".into()).chain(names).collect(), rows: Vec::new(), file })
    }

    /// One row more, in the file at once: whatever ends us, it stays.
    pub fn push(&mut self, seconds: f64, values: Vec<f64>, remark: &str) -> std::io::Result<()> {
        assert_eq!(values.len() + 1, self.names.len(), "a value for each column");
        let row: Vec<f64> = std::iter::once(seconds).chain(values).collect();
        let written = |value: &f64| if value.is_nan() { String::new() } else { format!("{value:.3}") };
        let cells: Vec<String> = row.iter().map(written).collect();
        self.rows.push(row);
        writeln!(self.file, "{},{}", cells.join(","), remark.replace(',', " "))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Time and value of a column, without what is not there.
    pub fn points(&self, name: &str) -> Vec<(f64, f64)> {
        let Some(column) = self.names.iter().position(|other| other == name) else {
            panic!("there is no column {name}")
        };
        self.rows.iter().map(|row| (row[0], row[column])).filter(|(_, value)| !value.is_nan()).collect()
    }

    /// The last value of a column.
    pub fn last(&self, name: &str) -> f64 {
        self.points(name).last().map_or(f64::NAN, |(_, value)| *value)
    }

    pub fn most(&self, name: &str) -> f64 {
        self.points(name).iter().map(|(_, value)| *value).fold(f64::NAN, f64::max)
    }

    pub fn middle(&self, name: &str) -> f64 {
        let mut values: Vec<f64> = self.points(name).iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// How much a column grows in an hour, by the line that fits its last half best.
    pub fn slope(&self, name: &str) -> f64 {
        let points = self.points(name);
        let half = &points[points.len() / 2..];
        let count = half.len() as f64;
        let (x, y) = half.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let (across, along) = half.iter().fold((0.0, 0.0), |(across, along), point| {
            (across + (point.0 - x) * (point.1 - y), along + (point.0 - x).powi(2))
        });
        3600.0 * across / along
    }
}
