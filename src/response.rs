//! What the server answers.
//!
//! | file | owns |
//! |---|---|
//! | [`head`] | the response's head becomes nginx's headers |
//! | [`body`] | the response's body: where it ends |
//!
//! Answers that come before all of the request was sent are read by nginx's layer (nginx/early.rs).

pub mod body;
pub mod head;
