//! Variants of photos: what a request asks for, and the keyspaces that remember the answers.

use std::fmt::Write;

use ebbtide::{Bytes, Fill, Keyspace, Outcome, Value};

use crate::render::Format;

/// The longest side that can be asked for.
const MAX_SIDE: u32 = 4096;
/// Variants up to this width are previews.
pub(crate) const MAX_PREVIEW_WIDTH: u32 = 64;

/// One size and format of one photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    photo: String,
    width: Option<u32>,
    height: Option<u32>,
    format: Format,
}

impl Variant {
    /// A photo at a width.
    pub(crate) fn new(photo: &str, width: u32, format: Format) -> Self {
        Self { photo: photo.to_owned(), width: Some(width), height: None, format }
    }

    /// Reads the query of a request; an error says what is wrong with it.
    pub(crate) fn parse(photo: &str, query: &[(String, String)]) -> Result<Self, String> {
        let (mut width, mut height, mut format) = (None, None, None);
        for (name, value) in query {
            let known = match name.as_str() {
                "w" => width.replace(side(name, value)?).is_none(),
                "h" => height.replace(side(name, value)?).is_none(),
                "format" => {
                    let parsed = Format::from_name(value);
                    let parsed = parsed.ok_or_else(|| {
                        format!("format must be jpeg, png or webp, not {value:?}")
                    })?;
                    format.replace(parsed).is_none()
                }
                _ => return Err(format!("unknown parameter {name:?}; there are w, h and format")),
            };
            if !known {
                return Err(format!("{name} is given more than once"));
            }
        }
        let format = format.unwrap_or(Format::Jpeg);
        Ok(Self { photo: photo.to_owned(), width, height, format })
    }

    /// The photo's name.
    pub(crate) fn photo(&self) -> &str {
        &self.photo
    }

    /// The box it has to fit into.
    pub(crate) fn bounds(&self) -> (u32, u32) {
        (self.width.unwrap_or(MAX_SIDE), self.height.unwrap_or(MAX_SIDE))
    }

    /// Its format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Its address with the parameters in one order and none left to be understood, so that equal
    /// requests have equal keys.
    pub(crate) fn key(&self) -> String {
        let mut key = format!("/img/{}?", self.photo);
        for (name, side) in [('w', self.width), ('h', self.height)] {
            if let Some(side) = side {
                // Writing to a string cannot fail.
                let _ = write!(key, "{name}={side}&");
            }
        }
        key + "format=" + self.format.name()
    }

    fn is_preview(&self) -> bool {
        self.width.is_some_and(|width| width <= MAX_PREVIEW_WIDTH)
    }
}

fn side(name: &str, value: &str) -> Result<u32, String> {
    let side = value.parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
    side.ok_or_else(|| format!("{name} must be a whole number from 1 to {MAX_SIDE}, not {value:?}"))
}

/// What is kept beside a variant's bytes, and can be read without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Its media type.
    pub(crate) content_type: String,
    /// The hash of the bytes: the same bytes have the same validator, in any store and after any
    /// purge.
    pub(crate) etag: String,
}

impl Labels {
    fn of(variant: &Variant, rendered: &[u8]) -> Self {
        Self {
            content_type: variant.format().content_type().to_owned(),
            etag: format!("\"{:032x}\"", ebbtide::value_hash(rendered)),
        }
    }

    fn to_text(&self) -> String {
        format!("{}\n{}", self.content_type, self.etag)
    }

    /// Reads the metadata of a stored variant.
    pub(crate) fn from_metadata(metadata: &[u8]) -> Self {
        let text = String::from_utf8_lossy(metadata);
        let (content_type, etag) = text.split_once('\n').unwrap_or((&text, ""));
        Self { content_type: content_type.to_owned(), etag: etag.to_owned() }
    }
}

/// What a filled variant has become.
#[derive(Debug)]
pub(crate) enum Filled {
    /// It is in the store, and this is it.
    Stored(Value),
    /// A purge, or a newer rendering, came in between: these bytes may be answered once.
    Superseded(Bytes),
    /// The store could not take it, as on a full disk: these bytes can be answered all the same.
    Refused(Bytes, ebbtide::Error),
}

/// The keyspaces of variants.
#[derive(Debug, Clone)]
pub(crate) struct Variants {
    /// Kept for 30 days.
    pub(crate) images: Keyspace,
    /// The smallest ones, kept for 16 minutes.
    pub(crate) previews: Keyspace,
}

impl Variants {
    /// The variant as stored, without a copy.
    pub(crate) fn get(&self, variant: &Variant) -> ebbtide::Result<Option<Value>> {
        self.keyspace(variant).get(variant.key())
    }

    /// Begins to fill a variant. To be called before the photo is read: a purge that comes from
    /// then on wins over this rendering, which may be of the photo as it was before.
    pub(crate) fn begin(&self, variant: &Variant) -> Fill {
        self.keyspace(variant).fill(variant.key()).tag(variant.photo())
    }

    /// Ends a fill.
    pub(crate) fn finish(&self, variant: &Variant, fill: Fill, rendered: Vec<u8>) -> Filled {
        let labels = Labels::of(variant, &rendered);
        match fill.metadata(labels.to_text()).commit(&rendered) {
            // Read back, so that a miss answers with the same validator and age as a hit will.
            Ok(Outcome::Stored) => match self.get(variant) {
                Ok(Some(value)) => Filled::Stored(value),
                Ok(None) => Filled::Superseded(rendered.into()),
                Err(error) => Filled::Refused(rendered.into(), error),
            },
            Ok(Outcome::Superseded) => Filled::Superseded(rendered.into()),
            Err(error) => Filled::Refused(rendered.into(), error),
        }
    }

    fn keyspace(&self, variant: &Variant) -> &Keyspace {
        if variant.is_preview() { &self.previews } else { &self.images }
    }
}
