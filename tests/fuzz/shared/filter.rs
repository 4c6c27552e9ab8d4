//! What a run of the filter leaves behind, as the oracle reads it; here the library ran.

#[derive(Debug)]
pub struct Run {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}
