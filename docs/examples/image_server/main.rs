//! An image server over an ebbtide store: rendered variants are cached, requests are logged under
//! pseudonyms, and both are gone on time, as the page at `/` shows.
//!
//! `cargo run --release --example image_server`, then open the address it prints. The parts:
//! `storage` opens the store, `variants` is the cache, `access_log` the log, `routes` brings them
//! together, `page` looks inside; `seed` fills the store before the first start.

mod access_log;
mod answer;
mod args;
mod page;
mod photos;
mod render;
mod routes;
mod seed;
mod storage;
mod text;
mod variants;

use std::error::Error;
use std::future::IntoFuture;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;
use photos::Photos;
use render::Gate;
use routes::{App, Tally};
use storage::Storage;

/// How long requests may take to end once the server is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            say(args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("image_server: {error}");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let photos = Photos::open(args.photos.clone())
        .map_err(|error| format!("cannot read {}: {error}", args.photos.display()))?;
    let started = Instant::now();
    let data = args.data.display();
    if seed::seed(&args, &photos)? {
        say(&format!("Made and seeded {data} in {:.1} s.", started.elapsed().as_secs_f64()));
    } else {
        say(&format!("Going on with what is in {data}; nothing is seeded."));
    }
    let storage = Storage::open(&args.data)?;
    let store = storage.store.clone();
    let app = Arc::new(App { storage, photos, gate: Gate::default(), tally: Tally::default() });
    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(serve(app, args.port));
    runtime.shutdown_timeout(STOP_PATIENCE);
    // Closed by name, not by dropping, to learn whether all of it went to the disk.
    store.close()?;
    say("Store closed.");
    Ok(served?)
}

async fn serve(app: Arc<App>, port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let (stop, give_up) = (told_to_stop()?, told_to_stop()?);
    introduce(listener.local_addr()?, &app.photos);
    let service = routes::router(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    let limit = async {
        give_up.await;
        say("Stopping.");
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = limit => Ok(()),
    }
}

/// Listens for ctrl-c and SIGTERM from now on; done when one of them comes.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Says where the server is and what to try.
fn introduce(address: SocketAddr, photos: &Photos) {
    let names = photos.names().unwrap_or_default();
    let photo = names.first().map_or("photo.jpg", String::as_str);
    let image = format!("http://{address}/img/{}", text::UrlPart(photo));
    say(&format!(
        "Listening on http://{address}/ (ctrl-c stops)\n\n\
         Open it in a browser, or try\n\
         \x20 curl -so /dev/null -D- '{image}?w=640&format=webp'    a miss\n\
         \x20 curl -so /dev/null -D- '{image}?format=webp&w=640'    a hit\n\
         \x20 curl -X DELETE '{image}'                              purges all of its variants\n\
         \x20 curl -so /dev/null -D- '{image}?w=640&format=webp'    a miss again\n"
    ));
}

/// Prints a line; nothing depends on anybody reading it.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
