//! Long answers go to the connection piece by piece. In one piece they would be copied into its buffer whole, and stay
//! there for as long as the reader takes.

use std::convert::Infallible;
use std::task::Poll;

use actix_http::body::SizedStream;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use futures_util::stream::poll_fn;

/// The size of a piece, in bytes.
const PIECE: usize = 16 * 1024;

/// Marks an answer whose bytes are in memory in any case, once for everybody.
pub struct Shared;

/// The same answer, and how many bytes of memory it keeps until it is written.
pub fn in_pieces(answer: HttpResponse<BoxBody>) -> (HttpResponse<BoxBody>, usize) {
    let BodySize::Sized(size) = answer.body().size() else { return (answer, 0) };
    let size_in_memory = usize::try_from(size).unwrap_or(usize::MAX);
    if size_in_memory <= 2 * PIECE {
        return (answer, size_in_memory);
    }
    let is_shared = answer.extensions().get::<Shared>().is_some();
    let answer = answer.map_body(|_, body| match body.try_into_bytes() {
        Ok(mut bytes) => {
            let pieces = poll_fn(move |_| {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready((!piece.is_empty()).then_some(Ok::<Bytes, Infallible>(piece)))
            });
            SizedStream::new(size, pieces).boxed()
        }
        Err(body) => body,
    });
    (answer, if is_shared { 2 * PIECE } else { size_in_memory + 2 * PIECE })
}
