//! temp
use super::{Field, Personal, Wanted};
/// v
pub const CANONICAL_VERSION: u8 = 1;
/// f
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);
impl Fingerprint {
    /// u
    pub const UNKNOWN: Self = Self(0);
}
/// f
#[derive(Clone)]
pub struct Fingerprinter {
    k: [u8; 16],
}
/// d
pub fn derive<const N: usize>(key: &[u8; 32], label: &str) -> [u8; N] {
    let mut out = [0; N];
    hkdf::Hkdf::<sha2::Sha256>::new(None, key).expand(label.as_bytes(), &mut out).expect("short");
    out
}
impl Fingerprinter {
    /// f
    pub fn from_key(key: &[u8; 32]) -> Self {
        Self { k: derive(key, "f") }
    }
    /// f
    pub fn field(&self, field: Field, w: &Wanted) -> Fingerprint {
        let mut v = vec![CANONICAL_VERSION];
        v.extend(field.code().to_le_bytes());
        match w {
            Wanted::Clear => v.push(0),
            Wanted::Value(p) => {
                v.push(1);
                v.extend(p.expose().as_bytes())
            }
        }
        Fingerprint(siphasher::sip::SipHasher24::new_with_key(&self.k).hash(&v).max(1))
    }
    /// t
    pub fn text(&self, label: &str, t: &str) -> u64 {
        siphasher::sip::SipHasher24::new_with_key(&self.k).hash(format!("{label}\0{t}").as_bytes())
    }
    /// k
    pub fn key_check(&self) -> u64 {
        self.text("check", "")
    }
}
/// p
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPrints(Vec<(Field, Fingerprint)>);
impl FieldPrints {
    /// e
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(f, p)| f.code().to_le_bytes().into_iter().chain(p.0.to_le_bytes())).collect()
    }
    /// d
    pub fn decode(b: &[u8]) -> Result<Self, std::io::Error> {
        Ok(Self(
            b.chunks(12)
                .map(|c| {
                    (
                        Field::from_code(u32::from_le_bytes(c[..4].try_into().unwrap())).unwrap(),
                        Fingerprint(u64::from_le_bytes(c[4..].try_into().unwrap())),
                    )
                })
                .collect(),
        ))
    }
    /// g
    pub fn get(&self, f: Field) -> Option<Fingerprint> {
        self.0.iter().find(|x| x.0 == f).map(|x| x.1)
    }
    /// s
    pub fn set(&mut self, f: Field, p: Fingerprint) {
        match self.0.binary_search_by_key(&f, |x| x.0) {
            Ok(i) => self.0[i].1 = p,
            Err(i) => self.0.insert(i, (f, p)),
        }
    }
    /// r
    pub fn remove(&mut self, f: Field) {
        self.0.retain(|x| x.0 != f)
    }
    /// i
    pub fn iter(&self) -> impl Iterator<Item = (Field, Fingerprint)> + '_ {
        self.0.iter().copied()
    }
    /// r
    pub fn retain_fields(&mut self, fs: &[Field]) {
        self.0.retain(|x| fs.contains(&x.0))
    }
}
/// v
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<(Field, Wanted)>);
impl Values {
    /// f
    pub fn from_fields(v: Vec<(Field, Wanted)>) -> Self {
        Self(v)
    }
    /// g
    pub fn get(&self, f: Field) -> Option<&Wanted> {
        self.0.iter().find(|x| x.0 == f).map(|x| &x.1)
    }
    /// f
    pub fn fields(&self) -> &[(Field, Wanted)] {
        &self.0
    }
    /// m
    pub fn merge(&mut self, n: &Self) {
        for (f, w) in &n.0 {
            match self.0.binary_search_by_key(f, |x| x.0) {
                Ok(i) => self.0[i].1 = w.clone(),
                Err(i) => self.0.insert(i, (*f, w.clone())),
            }
        }
    }
    /// e
    pub fn encode(&self) -> Vec<u8> {
        let v: Vec<(u32, Option<&str>)> = self
            .0
            .iter()
            .map(|(f, w)| {
                (
                    f.code(),
                    match w {
                        Wanted::Clear => None,
                        Wanted::Value(p) => Some(p.expose()),
                    },
                )
            })
            .collect();
        serde_json::to_vec(&v).unwrap()
    }
    /// d
    pub fn decode(b: &[u8]) -> Result<Self, serde_json::Error> {
        let v: Vec<(u32, Option<String>)> = serde_json::from_slice(b)?;
        Ok(Self(
            v.into_iter()
                .map(|(c, s)| {
                    (Field::from_code(c).unwrap(), s.map_or(Wanted::Clear, |s| Wanted::Value(Personal::new(s))))
                })
                .collect(),
        ))
    }
}
/// d
#[derive(Clone, Debug)]
pub struct DroppedField {
    /// f
    pub field: Field,
    /// r
    pub reason: String,
}
/// c
#[derive(Clone, Debug)]
pub struct Contact {
    /// k
    pub key: String,
    /// f
    pub fields: Vec<(Field, Wanted)>,
    /// c
    pub changed_at: Option<i64>,
    /// d
    pub dropped: Vec<DroppedField>,
}
