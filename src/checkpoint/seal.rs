//! Sealing: secrets that must outlive the process stand in the database encrypted (`XChaCha20-Poly1305`), so that a copy of
//! it without the key tells nothing.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::random::Random;

use super::{Checkpoint, CheckpointError};

const NONCE_BYTES: usize = 24;
/// What is sealed is longer than it was by so much: the nonce, and what proves that nobody altered it.
pub(super) const SEAL_BYTES: usize = NONCE_BYTES + 16;

/// Seals and opens with the checkpoint's key.
#[derive(Clone, Copy)]
pub(super) struct Sealer([u8; 32]);

impl Sealer {
    pub(super) const fn of(key: &[u8; 32]) -> Self {
        Self(*key)
    }

    /// Seals `plain`; `name` says what it is and binds it to its place.
    pub(super) fn seal(self, name: &'static str, plain: &[u8], random: &Random) -> Result<Vec<u8>, CheckpointError> {
        self.seal_at(name, name, plain, random)
    }

    /// The same for one of several of a name, bound to `place`.
    pub(super) fn seal_at(
        self,
        name: &'static str,
        place: &str,
        plain: &[u8],
        random: &Random,
    ) -> Result<Vec<u8>, CheckpointError> {
        let nonce = random.bytes::<NONCE_BYTES>();
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| CheckpointError::Sealed(name))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Sealer::seal`] made under the same name and key.
    pub(super) fn unseal(self, name: &'static str, sealed: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        self.unseal_at(name, name, sealed)
    }

    /// Opens what [`Sealer::seal_at`] made for the same place.
    pub(super) fn unseal_at(self, name: &'static str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(CheckpointError::Sealed(name))?;
        let payload = Payload { msg: text, aad: place.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| CheckpointError::Sealed(name))
    }

    fn cipher(self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

impl Checkpoint {
    /// As [`Sealer::seal`].
    pub(super) fn seal(&self, name: &'static str, plain: &[u8], random: &Random) -> Result<Vec<u8>, CheckpointError> {
        Sealer::of(&self.sealing_key).seal(name, plain, random)
    }

    /// As [`Sealer::unseal`].
    pub(super) fn unseal(&self, name: &'static str, sealed: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        Sealer::of(&self.sealing_key).unseal(name, sealed)
    }

    /// As [`Sealer::seal_at`].
    pub(super) fn seal_at(
        &self,
        name: &'static str,
        place: &str,
        plain: &[u8],
        random: &Random,
    ) -> Result<Vec<u8>, CheckpointError> {
        Sealer::of(&self.sealing_key).seal_at(name, place, plain, random)
    }

    /// As [`Sealer::unseal_at`].
    pub(super) fn unseal_at(&self, name: &'static str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        Sealer::of(&self.sealing_key).unseal_at(name, place, sealed)
    }
}
