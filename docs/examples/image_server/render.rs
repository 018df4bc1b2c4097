//! Turning a photo into a variant of it. The only code here that takes long.

use std::fmt;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits};

/// Quality of what is compressed with loss, of 100.
const QUALITY: u8 = 80;
/// The most memory that decoding one photo may take.
const MAX_DECODE_BYTES: u64 = 256 << 20;
/// Photos rendered at the same time; each may take a hundred megabytes and more.
const MAX_RENDERS: usize = 8;

/// An image format that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JPEG, unless asked otherwise.
    Jpeg,
    /// PNG, without loss.
    Png,
    /// WebP, with loss.
    Webp,
}

impl Format {
    /// The format of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png, Self::Webp].into_iter().find(|format| format.name() == name)
    }

    /// Its name, as in `format=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

/// A photo that could not be rendered.
#[derive(Debug)]
pub(crate) struct RenderError(String);

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot render: {}", self.0)
    }
}

impl std::error::Error for RenderError {}

impl From<image::ImageError> for RenderError {
    fn from(error: image::ImageError) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for RenderError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads a photo and turns it upright.
pub(crate) fn decode(path: &Path) -> Result<DynamicImage, RenderError> {
    let mut reader = ImageReader::open(path)?.with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut photo = DynamicImage::from_decoder(decoder)?;
    photo.apply_orientation(orientation);
    Ok(photo)
}

/// Makes a photo fit into a box, keeping its shape. It is never enlarged.
pub(crate) fn fit(photo: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    let (own_width, own_height) = photo.dimensions();
    photo.resize(width.min(own_width), height.min(own_height), FilterType::Triangle)
}

/// Compresses an image.
pub(crate) fn encode(image: &DynamicImage, format: Format) -> Result<Vec<u8>, RenderError> {
    let mut bytes = Vec::new();
    match format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
            image.to_rgb8().write_with_encoder(encoder)?;
        }
        Format::Png => image.write_to(Cursor::new(&mut bytes), ImageFormat::Png)?,
        Format::Webp => {
            let (width, height) = image.dimensions();
            let pixels = image.to_rgba8();
            let encoded = webp::Encoder::from_rgba(&pixels, width, height)
                .encode_simple(false, f32::from(QUALITY))
                .map_err(|error| RenderError(format!("{error:?}")))?;
            bytes.extend_from_slice(&encoded);
        }
    }
    Ok(bytes)
}

/// Keeps the number of photos rendered at the same time within bounds.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: AtomicUsize,
}

/// Leave to render one photo; given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    /// Lets one more in, unless there are too many.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        let pass = Pass(self);
        (self.inside.fetch_add(1, Ordering::Relaxed) < MAX_RENDERS).then_some(pass)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}
