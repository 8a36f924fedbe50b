//! SafePort.
