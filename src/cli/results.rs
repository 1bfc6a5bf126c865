//! What a command leaves in its folder: the numbers, the pictures, and a page that shows both.

use super::long_run::command_line;
use super::term::write;
use penjing::render::scene::Scene;
use penjing::render::svg;
use penjing::report::result;
use serde_json::Value;
use std::path::Path;

pub struct Results<'a> {
    folder: &'a Path,
    name: &'a str,
    drawings: Vec<String>,
}

impl<'a> Results<'a> {
    /// Writes `NAME.json`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(folder: &'a Path, name: &'a str, document: &Value) -> anyhow::Result<Results<'a>> {
        write(folder, &format!("{name}.json"), (serde_json::to_string_pretty(document)? + "\n").as_bytes())?;
        Ok(Results { folder, name, drawings: Vec::new() })
    }

    /// Writes a picture and keeps it for the page.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn picture(&mut self, file: &str, scene: &Scene) -> anyhow::Result<()> {
        let drawing = svg::draw(scene);
        write(self.folder, file, drawing.as_bytes())?;
        self.drawings.push(drawing);
        Ok(())
    }

    /// Writes `NAME.html`; `text` is what the command prints.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn page(self, title: &str, text: &str) -> anyhow::Result<()> {
        let page = result::html(title, &command_line(), &self.drawings, text);
        write(self.folder, &format!("{}.html", self.name), page.as_bytes())
    }
}
