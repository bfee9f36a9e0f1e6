//! The services of others that the examples ask: where tokens come from, and where the runner is downloaded.

use std::path::Path;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One request, as far as these services look at it.
pub struct Ask {
    /// `METHOD host/path`, without the query.
    pub what: String,
    /// Fields of the query and of a form.
    pub fields: Vec<(String, String)>,
    pub request: HttpRequest,
}

impl Ask {
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    pub fn header(&self, name: &str) -> &str {
        self.request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What is answered; `None` is 403, and the example fails.
pub type Service = Arc<dyn Fn(&Ask) -> Option<Vec<u8>> + Send + Sync>;

/// All of them on two ports of this machine; ends when dropped.
pub struct Outside {
    pub http: u16,
    pub https: u16,
    handle: ServerHandle,
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The command is sent by the call; the future would only wait for it.
        drop(self.handle.stop(false));
    }
}

impl Outside {
    pub fn start(certificate: &Path, key: &Path, service: Service) -> Outside {
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).expect("a certificate")],
                PrivateKeyDer::from_pem_file(key).expect("a key"),
            )
            .expect("a certificate with its key");
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (plain, secure) = (listen(), listen());
        let port = |listener: &std::net::TcpListener| listener.local_addr().expect("an address").port();
        let (http, https) = (port(&plain), port(&secure));
        let app =
            move || App::new().app_data(web::Data::new(service.clone())).default_service(web::to(answer));
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.listen(plain).and_then(|server| server.listen_rustls_0_23(secure, tls));
        let server = server.expect("a server").run();
        let handle = server.handle();
        tokio::spawn(server);
        Outside { http, https, handle }
    }
}

async fn answer(request: HttpRequest, body: Bytes, service: web::Data<Service>) -> HttpResponse {
    let mut fields: Vec<(String, String)> =
        serde_urlencoded::from_str(request.query_string()).unwrap_or_default();
    fields.extend(serde_urlencoded::from_bytes::<Vec<(String, String)>>(&body).unwrap_or_default());
    let host = request.connection_info().host().split(':').next().unwrap_or_default().to_owned();
    let ask = Ask { what: format!("{} {host}{}", request.method(), request.path()), fields, request };
    match service(&ask) {
        Some(body) => HttpResponse::Ok().body(body),
        None => HttpResponse::Forbidden().body("this is not how it is asked for"),
    }
}
