//! The endpoints that prove the audit log: the checkpoint, inclusion and consistency proofs.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, get};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::audit::proof;
use crate::http::State;
use crate::http::body::Query;
use crate::http::caller::{Caller, Named};
use crate::http::problem::Problem;
use crate::seal::Hash;

/// Get the last checkpoint of the sealed audit log
///
/// A tlog-checkpoint in a signed-note (C2SP): origin, number of leaves, root hash, signature.
#[utoipa::path(tag = "audit", operation_id = "get_audit_checkpoint", responses(
    (status = OK, description = "The note", body = String, content_type = "text/plain"),
    Problem))]
#[get("/audit/checkpoint")]
pub async fn checkpoint(_caller: Named, state: Data<State>) -> Result<HttpResponse, Problem> {
    let note = state.broker.checkpoint().await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "no-store"));
    Ok(answer.content_type("text/plain; charset=utf-8").body(note))
}

/// Get the proof that an event is in the sealed audit log
#[utoipa::path(tag = "audit", operation_id = "get_audit_proof", params(("id" = i64, Path, description = "The event's id")), responses(
    (status = OK, description = "The proof", body = AuditProof),
    Problem))]
#[get("/audit/{id}/proof")]
pub async fn event(
    caller: Caller,
    state: Data<State>,
    EventId(id): EventId,
) -> Result<HttpResponse, Problem> {
    let proof = state.broker.event_proof(&caller, id).await?;
    Ok(HttpResponse::Ok().json(AuditProof::from(proof)))
}

/// Get the proof that the sealed audit log only grew between two sizes
#[utoipa::path(tag = "audit", operation_id = "get_audit_consistency", params(ConsistencyQuery), responses(
    (status = OK, description = "The proof", body = ConsistencyProof),
    Problem))]
#[get("/audit/consistency")]
pub async fn consistency(
    _caller: Named,
    state: Data<State>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<HttpResponse, Problem> {
    let proof = state.broker.consistency(query.from, query.to).await?;
    Ok(HttpResponse::Ok().json(ConsistencyProof::from(proof)))
}

/// The id in the path; a text that is not a number is the id of no event: 404.
pub struct EventId(i64);

impl FromRequest for EventId {
    type Error = Problem;
    type Future = Ready<Result<EventId, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = req.match_info().get("id").and_then(|id| id.parse().ok());
        ready(id.map(EventId).ok_or_else(|| Problem::not_found(req.path())))
    }
}

/// Between which sizes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// The older size, 1 or more.
    #[param(minimum = 1)]
    from: u64,
    /// The newer size; the last checkpoint's unless given.
    to: Option<u64>,
}

/// The audit path of RFC 6962. Hashes are base64, as in the checkpoint.
#[derive(Serialize, ToSchema)]
pub struct AuditProof {
    event_id: i64,
    /// The bytes whose hash is the leaf: SHA-256(0x00 ‖ record).
    record: String,
    leaf_index: u64,
    leaf_hash: String,
    tree_size: u64,
    /// From the leaf's neighbour up to the root's child.
    hashes: Vec<String>,
    /// The note that the proof leads to.
    checkpoint: String,
}

/// The consistency proof of RFC 6962. Hashes are base64.
#[derive(Serialize, ToSchema)]
pub struct ConsistencyProof {
    from: u64,
    to: u64,
    hashes: Vec<String>,
}

fn texts(hashes: Vec<Hash>) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

impl From<proof::EventProof> for AuditProof {
    fn from(proof: proof::EventProof) -> AuditProof {
        AuditProof {
            event_id: proof.event_id,
            record: proof.record,
            leaf_index: proof.leaf_index,
            leaf_hash: proof.leaf_hash.to_string(),
            tree_size: proof.tree_size,
            hashes: texts(proof.hashes),
            checkpoint: proof.checkpoint,
        }
    }
}

impl From<proof::Consistency> for ConsistencyProof {
    fn from(proof: proof::Consistency) -> ConsistencyProof {
        ConsistencyProof { from: proof.from, to: proof.to, hashes: texts(proof.hashes) }
    }
}
