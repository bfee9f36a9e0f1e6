//! The OpenAPI document of the routes and its page, the policy's schema, and the answer where there is no route.

use std::borrow::Cow;
use std::future::ready;
use std::sync::{Arc, LazyLock};

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, ContentType, HeaderValue};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{App, HttpRequest, HttpResponse, ResponseError};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem};
use utoipa::{PartialSchema, ToSchema};
use utoipa_actix_web::AppExt;
use utoipa_swagger_ui::Config;

use super::slices::Shared;
use crate::http::problem::Problem;
use crate::policy;

/// The document as served and as committed.
pub fn openapi() -> OpenApi {
    let license =
        LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("runner-broker")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("One GitHub self-hosted runner for an OpenID Connect token, by policy, audited."))
        .license(Some(license))
        .build();
    let bearer =
        SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
    // Operations only refer to it (`IntoResponses`), so it is brought along here.
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    let mut components = Components::new();
    components.schemas.extend(schemas);
    components.add_security_scheme("oidc", bearer);
    let base = OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("oidc", Vec::<String>::new())]))
        .build();
    let (_, api) =
        App::new().into_utoipa_app().openapi(base).configure(crate::http::routes).split_for_parts();
    api
}

/// The document and a page that shows it, with nothing loaded from elsewhere.
pub fn pages(document: Bytes) -> impl FnOnce(&mut actix_web::web::ServiceConfig) {
    // Without "none" the page would send the address of the document to an external validator.
    let settings = Config::new(["/openapi.json"]).validator_url("none");
    let settings = Arc::new(settings);
    let page = move |file: Path<String>| ready(page(&file, settings.clone()));
    let serve = move || ready(shared(ContentType::json().0.as_ref(), document.clone()));
    move |config| {
        config
            .route("/policy.schema.json", actix_web::web::get().to(policy_schema))
            .route("/openapi.json", actix_web::web::get().to(serve))
            .route("/docs", actix_web::web::get().to(async || actix_web::web::Redirect::to("/docs/")))
            .route("/docs/{file:.*}", actix_web::web::get().to(page));
    }
}

/// A file of the page, as it is in the program.
fn page(file: &str, settings: Arc<Config<'static>>) -> HttpResponse {
    let found = match utoipa_swagger_ui::serve(file, settings) {
        Ok(found) => found,
        Err(err) => {
            tracing::error!(file, error = %err, "the page of the API cannot be made");
            return HttpResponse::InternalServerError().finish();
        }
    };
    let Some(found) = found else { return HttpResponse::NotFound().finish() };
    let bytes = match found.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let mut answer = shared(&found.content_type, bytes);
    if found.gzpipped {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// An answer whose bytes are in memory once for everybody.
fn shared(content_type: &str, bytes: Bytes) -> HttpResponse {
    let mut answer = HttpResponse::Ok().content_type(content_type).body(bytes);
    answer.extensions_mut().insert(Shared);
    answer
}

/// The JSON Schema of the policy, for editors. It changes with the version only.
async fn policy_schema() -> HttpResponse {
    static SCHEMA: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(policy::schema()));
    let mut answer = shared("application/schema+json", SCHEMA.clone());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

/// The paths and methods that there are, to tell a wrong method from a wrong path.
pub struct Known(Vec<(Vec<String>, Vec<&'static str>)>);

impl Known {
    pub fn of(api: &OpenApi) -> Known {
        let pages = ["/openapi.json", "/policy.schema.json", "/docs", "/docs/", "/docs/{file}"];
        let pages = pages.map(|page| (page.to_owned(), vec!["GET"]));
        let routes = api.paths.paths.iter().map(|(path, item)| (path.clone(), methods(item)));
        Known(routes.chain(pages).map(|(path, methods)| (segments(&path), methods)).collect())
    }

    fn methods(&self, path: &str) -> Vec<&'static str> {
        let asked = segments(path);
        let fits = |known: &[String]| {
            known.len() == asked.len()
                && known.iter().zip(&asked).all(|(known, asked)| {
                    // Nothing is no parameter: `/runners/` is not a runner.
                    (known.starts_with('{') && !asked.is_empty()) || known == asked
                })
        };
        let mut methods: Vec<&'static str> =
            self.0.iter().filter(|(known, _)| fits(known)).flat_map(|(_, methods)| methods.clone()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        if !methods.is_empty() {
            methods.push("OPTIONS");
        }
        methods.sort_unstable();
        methods.dedup();
        methods
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let has = |operation: &Option<Operation>, name| operation.as_ref().map(|_| name);
    [
        has(&item.get, "GET"),
        has(&item.post, "POST"),
        has(&item.put, "PUT"),
        has(&item.patch, "PATCH"),
        has(&item.delete, "DELETE"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The answer where there is no route: the methods for OPTIONS, 405 where another method exists, otherwise 404.
pub async fn unknown(req: HttpRequest, known: Data<Known>) -> HttpResponse {
    let methods = known.methods(req.path());
    if methods.is_empty() {
        return Problem::not_found(req.path()).error_response();
    }
    let allowed = methods.join(", ");
    match *req.method() {
        Method::OPTIONS => HttpResponse::NoContent().insert_header((ALLOW, allowed)).finish(),
        ref method => Problem::method_not_allowed(method.as_str(), allowed).error_response(),
    }
}
