//! What waits for a transaction's end: lines in the log and counts of something that may yet be rolled back.

use std::cell::RefCell;

type Work = Box<dyn FnOnce() + Send>;

tokio::task_local! {
    static WAITING: RefCell<Vec<Work>>;
}

/// What a transaction has put off. Dropped, it is forgotten, as what is rolled back never happened.
pub(in crate::store) struct Waiting(Vec<Work>);

impl Waiting {
    pub(in crate::store) fn run(self) {
        self.0.into_iter().for_each(|work| work());
    }
}

/// Runs `work` once the transaction that this task is in is committed, and never if it is not. Outside of
/// one it runs at once.
pub fn after_commit(work: impl FnOnce() + Send + 'static) {
    let mut work = Some(Box::new(work) as Work);
    // `Err`: there is no transaction, and the work is still here.
    let _ = WAITING.try_with(|waiting| waiting.borrow_mut().extend(work.take()));
    if let Some(work) = work {
        work();
    }
}

/// Runs a transaction's work, and keeps what that puts off.
pub(in crate::store) async fn gather<R>(work: impl Future<Output = R>) -> (R, Waiting) {
    let gathering = async {
        let result = work.await;
        (result, Waiting(WAITING.with(RefCell::take)))
    };
    WAITING.scope(RefCell::default(), gathering).await
}
