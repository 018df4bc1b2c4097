//! Answers: what goes wrong as a type, and the headers of images.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ebbtide::{Bytes, Stat, Timestamp, Value};

use crate::variants::Labels;

/// The longest that browsers may keep an image, in seconds: a purge does not reach them.
const MAX_AGE_SECONDS: u64 = 60;

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request is wrong.
    BadRequest(String),
    /// There is no such thing.
    NotFound(String),
    /// Too much is asked for at once.
    Busy,
    /// It is the server's fault.
    Internal(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::BadRequest(text) => (StatusCode::BAD_REQUEST, text),
            Self::NotFound(text) => (StatusCode::NOT_FOUND, text),
            Self::Busy => {
                let text = "too many photos are being rendered; try again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
            Self::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        };
        (status, [(header::CACHE_CONTROL, "no-store")], text + "\n").into_response()
    }
}

impl From<ebbtide::Error> for Refusal {
    fn from(error: ebbtide::Error) -> Self {
        match error {
            ebbtide::Error::Limit { .. } => Self::BadRequest(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<tokio::task::JoinError> for Refusal {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// An image that is in the store: its bytes go out as they lie there, or not at all if the client
/// has them.
pub(crate) fn stored(
    value: Value,
    now: Timestamp,
    cache: &'static str,
    asked: &HeaderMap,
) -> Response {
    let stat = value.stat();
    let Labels { content_type, etag } = Labels::from_metadata(stat.metadata());
    let headers = [
        (header::CACHE_CONTROL, cache_control(stat, now)),
        (header::HeaderName::from_static("x-cache"), cache.to_owned()),
    ];
    let known = has_etag(asked, &etag);
    let headers = (headers, [(header::ETAG, etag)]);
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, content_type)];
    (headers, content_type, Body::from(value.into_bytes())).into_response()
}

/// An image that is not in the store: to be used once and kept nowhere.
pub(crate) fn passing(bytes: Bytes, content_type: &'static str, cache: &'static str) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-cache"), cache),
        (header::CONTENT_TYPE, content_type),
    ];
    (headers, Body::from(bytes)).into_response()
}

/// Copies in browsers go before the record does, and soon in any case.
fn cache_control(stat: &Stat, now: Timestamp) -> String {
    let left = stat.gone_at().since(now).as_secs();
    format!("max-age={}, must-revalidate", left.min(MAX_AGE_SECONDS))
}

/// True if the client says that it has this version.
fn has_etag(asked: &HeaderMap, etag: &str) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut known = lines.flat_map(|line| line.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}
