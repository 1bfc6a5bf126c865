//! PNG and PDF from the SVG, with a font of our own, so that the bytes are the same on every machine.

use crate::error::Hint;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt, SvgSettings};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};
use std::sync::Arc;

/// Liberation Sans has the widths of Helvetica, by which the figure was laid out.
const FONT: &[u8] = include_bytes!("../../fonts/LiberationSans-Regular.ttf");

/// The most pixels that a PNG may have.
const MOST_PIXELS: f64 = 4e8;

/// Why a figure cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    #[error("the figure is no SVG: {0}")]
    Svg(#[from] usvg::Error),
    #[error("a figure of {width} by {height} pixels is too large")]
    Size { width: f64, height: f64 },
    #[error("the PNG cannot be written: {0}")]
    Png(String),
    #[error("the PDF cannot be written: {0}")]
    Pdf(String),
}

impl Hint for RasterError {
    fn hint(&self) -> Option<String> {
        match self {
            RasterError::Size { .. } => Some("take a lower --dpi, or a --width that fits a page".into()),
            _ => None,
        }
    }
}

fn tree(svg: &str) -> Result<usvg::Tree, RasterError> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("Liberation Sans");
    let options =
        usvg::Options { fontdb: Arc::new(fonts), font_family: "Liberation Sans".into(), ..Default::default() };
    Ok(usvg::Tree::from_str(svg, &options)?)
}

/// # Errors
/// [`RasterError`].
pub fn png(svg: &str, dpi: f64) -> Result<Vec<u8>, RasterError> {
    let tree = tree(svg)?;
    // The size of a tree is in pixels of CSS, 96 an inch.
    let scale = dpi / 96.0;
    let [width, height] = [tree.size().width(), tree.size().height()].map(|length| (f64::from(length) * scale).ceil());
    let too_large = RasterError::Size { width, height };
    if width * height > MOST_PIXELS {
        return Err(too_large);
    }
    let mut pixels = Pixmap::new(width as u32, height as u32).ok_or(too_large)?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| RasterError::Png(error.to_string()))
}

/// # Errors
/// [`RasterError`].
pub fn pdf(svg: &str) -> Result<Vec<u8>, RasterError> {
    let tree = tree(svg)?;
    let failed = |what: &str| RasterError::Pdf(what.to_owned());
    // 72 points an inch.
    let [width, height] = [tree.size().width(), tree.size().height()].map(|length| length * 0.75);
    let mut document = krilla::Document::new();
    let size = krilla::geom::Size::from_wh(width, height).ok_or_else(|| failed("it has no size"))?;
    let mut page = document.start_page_with(PageSettings::new(size));
    let mut surface = page.surface();
    surface.draw_svg(&tree, size, SvgSettings::default()).ok_or_else(|| failed("the figure cannot be drawn"))?;
    surface.finish();
    page.finish();
    document.finish().map_err(|error| failed(&format!("{error:?}")))
}
