//! Chunks of a program's output as binaries of the VM.

use rustler::OwnedBinary;
use safe_port_core::reader;

/// A binary that is filled by reading and then shared by the packets in it.
pub struct Chunk(pub OwnedBinary);

impl reader::Chunk for Chunk {
    fn alloc(bytes: usize) -> Option<Self> {
        // rustler panics when the VM has no memory for it.
        std::panic::catch_unwind(|| OwnedBinary::new(bytes)).ok().map(Chunk)
    }

    fn resize(&mut self, bytes: usize) -> bool {
        self.0.realloc(bytes)
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}
