//! SafePort.
fn main() {}
