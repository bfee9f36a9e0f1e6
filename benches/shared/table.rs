//! Tables that are printed as Markdown and kept as CSV.

use std::path::Path;

/// Rows under a head.
pub struct Table {
    name: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// `name` is its file's.
    pub fn new(name: &'static str, head: &[&str]) -> Table {
        Table { name, head: head.iter().map(|&text| text.to_owned()).collect(), rows: Vec::new() }
    }

    /// Keeps a row, and writes all of them down at once: whatever ends us, they stay.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.head.len(), "a cell for each column");
        println!("{}: {}", self.name, row.join(" | "));
        self.rows.push(row);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder).expect("a folder");
        let quoted = |cell: &String| if cell.contains(',') { format!("\"{cell}\"") } else { cell.clone() };
        let line = |cells: &Vec<String>| {
            cells.iter().map(quoted).collect::<Vec<_>>().join(",").replace(['`', '*'], "") + "\n"
        };
        let text = std::iter::once(&self.head).chain(&self.rows).map(line).collect::<String>();
        std::fs::write(folder.join(format!("{}.csv", self.name)), text).expect("a file");
    }

    pub fn print(&self) {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rows: String = self.rows.iter().map(line).collect();
        println!("\n{}|{}\n{rows}", line(&self.head), "---|".repeat(self.head.len()));
    }
}

/// So many digits after the point; nothing for what is not there.
pub fn digits(value: f64, digits: usize) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.digits$}") }
}
