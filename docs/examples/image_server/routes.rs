//! The routes. What may wait for the disk or takes long runs on the threads made for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::HttpBody;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use ebbtide::Receipt;
use serde_json::{Value as Json, json};
use tokio::task::spawn_blocking;

use crate::access_log;
use crate::answer::{self, Refusal};
use crate::page;
use crate::photos::{Photos, is_plain_name};
use crate::render::{self, Gate};
use crate::storage::Storage;
use crate::variants::{Filled, Variant};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    /// The store.
    pub(crate) storage: Storage,
    /// The folder of photos.
    pub(crate) photos: Photos,
    /// Bounds how many photos are rendered at once.
    pub(crate) gate: Gate,
    /// How images were answered.
    pub(crate) tally: Tally,
}

/// Counts of answers since the start. The store counts reads, of which a miss makes two.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answers from the store.
    pub(crate) hits: AtomicU64,
    /// Answers that had to be rendered.
    pub(crate) misses: AtomicU64,
}

/// Put into an answer to say which photo the request was about.
#[derive(Debug, Clone)]
struct About(String);

type Name = Result<Path<String>, PathRejection>;
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(show_page))
        .route("/img/{name}", get(show_image).delete(purge))
        .fallback(|| async { Refusal::NotFound("there is only / and /img/{name}".to_owned()) })
        .layer(from_fn_with_state(Arc::clone(&app), log_request))
        .layer(middleware::map_response(add_safety_headers))
        .with_state(app)
}

async fn show_page(State(app): State<Arc<App>>) -> Result<Html<String>, Refusal> {
    Ok(Html(spawn_blocking(move || page::render(&app)).await??))
}

async fn show_image(
    State(app): State<Arc<App>>,
    name: Name,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = plain_name(name)?;
    let Query(query) = query.map_err(|error| Refusal::BadRequest(error.body_text()))?;
    let variant = Variant::parse(&name, &query).map_err(Refusal::BadRequest)?;
    let mut response = match app.storage.variants.get(&variant) {
        Ok(Some(value)) => {
            app.tally.hits.fetch_add(1, Ordering::Relaxed);
            answer::stored(value, app.storage.store.now(), "hit", &headers)
        }
        Ok(None) => spawn_blocking(move || render_and_keep(&app, &variant, &headers)).await??,
        Err(error) => {
            // A cache that cannot be read is no reason not to answer.
            eprintln!("image_server: {error}");
            spawn_blocking(move || render_and_keep(&app, &variant, &headers)).await??
        }
    };
    response.extensions_mut().insert(About(name));
    Ok(response)
}

fn render_and_keep(app: &App, variant: &Variant, headers: &HeaderMap) -> Result<Response, Refusal> {
    let path = app.photos.path(variant.photo());
    let path = path.ok_or_else(|| no_photo(variant.photo()))?;
    let _pass = app.gate.enter().ok_or(Refusal::Busy)?;
    let fill = app.storage.variants.begin(variant);
    let (width, height) = variant.bounds();
    let rendered = render::decode(&path)
        .and_then(|photo| render::encode(&render::fit(&photo, width, height), variant.format()))
        .map_err(|error| Refusal::Internal(error.to_string()))?;
    app.tally.misses.fetch_add(1, Ordering::Relaxed);
    let content_type = variant.format().content_type();
    Ok(match app.storage.variants.finish(variant, fill, rendered) {
        Filled::Stored(value) => answer::stored(value, app.storage.store.now(), "miss", headers),
        Filled::Superseded(bytes) => answer::passing(bytes, content_type, "superseded"),
        Filled::Refused(bytes, error) => {
            eprintln!("image_server: not kept: {error}");
            answer::passing(bytes, content_type, "refused")
        }
    })
}

async fn purge(State(app): State<Arc<App>>, name: Name) -> Result<Response, Refusal> {
    let name = plain_name(name)?;
    let photo = name.clone();
    let receipt = spawn_blocking(move || app.storage.purge(&photo)).await??;
    let body = format!("{:#}\n", json!({ "photo": name, "receipt": to_json(&receipt) }));
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    response.extensions_mut().insert(About(name));
    Ok(response)
}

fn to_json(receipt: &Receipt) -> Json {
    json!({
        "sequence": receipt.sequence(),
        "target": receipt.target().to_string(),
        "at": receipt.at().to_string(),
        "level": receipt.level().to_string(),
        "persist_by": receipt.persist_by().map(|time| time.to_string()),
        "gone_by": receipt.gone_by().to_string(),
    })
}

fn plain_name(name: Name) -> Result<String, Refusal> {
    let Path(name) = name.map_err(|error| Refusal::BadRequest(error.body_text()))?;
    if is_plain_name(&name) { Ok(name) } else { Err(no_photo(&name)) }
}

fn no_photo(name: &str) -> Refusal {
    Refusal::NotFound(format!("there is no photo {name:?}"))
}

/// Writes every request down, under the pseudonym of who sent it.
async fn log_request(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().to_string();
    let path = request.uri().to_string();
    let agent = request.headers().get(header::USER_AGENT).map(|agent| agent.as_bytes().to_vec());
    let response = next.run(request).await;
    let about = response.extensions().get::<About>().cloned();
    let row = access_log::Request {
        method,
        path,
        status: response.status().as_u16(),
        bytes: response.body().size_hint().lower(),
        agent: String::from_utf8_lossy(&agent.unwrap_or_default()).into_owned(),
    };
    let written = spawn_blocking(move || {
        let photo = about.as_ref().map(|About(photo)| photo.as_str());
        app.storage.access.record(peer.ip(), app.storage.store.now(), photo, &row)
    });
    // Waited for, so that who sees the answer can see the row as well. A request is answered also
    // if it cannot be written down.
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("image_server: not logged: {error}"),
        Err(error) => eprintln!("image_server: not logged: {error}"),
    }
    response
}

/// Browsers are not to guess types, nor to take anything from elsewhere.
async fn add_safety_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(policy));
    let nosniff = header::HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
