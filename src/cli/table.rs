//! Tables of numbers on the terminal.

use comfy_table::{CellAlignment, Table, presets};

/// A table whose columns from `first` on are numbers, set flush right.
pub fn table(header: &[&str], first: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in first..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
