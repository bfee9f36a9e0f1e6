//! Styles, scripts and images, built into the program.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Path;
use actix_web::{HttpResponse, get};

use crate::http::problem::Problem;
use crate::model::sha256;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JS: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset { name: "console.css", content_type: CSS, content: include_bytes!("assets/console.css") },
    Asset { name: "event.js", content_type: JS, content: include_bytes!("assets/event.js") },
    Asset { name: "verify.js", content_type: JS, content: include_bytes!("assets/verify.js") },
    Asset { name: "icon.svg", content_type: SVG, content: include_bytes!("assets/icon.svg") },
    Asset { name: "console.js", content_type: JS, content: include_bytes!("assets/console.js") },
    Asset { name: "live.js", content_type: JS, content: include_bytes!("assets/live.js") },
    Asset { name: "chart.js", content_type: JS, content: include_bytes!("assets/chart.js") },
    Asset { name: "new-runner.js", content_type: JS, content: include_bytes!("assets/new-runner.js") },
    // uPlot 1.6.32 as npm has it; its licence lies beside it.
    Asset {
        name: "uPlot.esm.js",
        content_type: JS,
        content: include_bytes!("assets/vendor/uplot/uPlot.esm.js"),
    },
    Asset {
        name: "uPlot.min.css",
        content_type: CSS,
        content: include_bytes!("assets/vendor/uplot/uPlot.min.css"),
    },
];

/// One version for all assets: scripts import one another, so a change of one changes the address of all.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<u8> = ASSETS.iter().flat_map(|one| one.content).copied().collect();
    sha256(all)[..12].to_owned()
});

/// The address of an asset; it changes with every change of the assets.
pub fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// The version in the path is for caches alone.
#[get("/assets/{version}/{name}")]
pub async fn asset(path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (_, name) = path.into_inner();
    let found = ASSETS.iter().find(|one| one.name == name).ok_or_else(|| Problem::not_found(&name))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, found.content_type))
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(found.content))
}
