//! What an image name means on a machine without a registry.

/// The name of the image that holds Malha's own programs.
const OWN: &str = "malha";

/// What an image name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Malha's programs and nothing else.
    Malha,
    /// The host's root, read-only.
    Host,
}

/// A name that no registry would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Failed to apply default image tag {0:?}: couldn't parse image name {0:?}: invalid reference format"
)]
pub struct InvalidName(pub String);

/// What `name` stands for: the last part of its path decides, whatever registry, tag or digest it names.
///
/// # Errors
/// When it is no image name.
pub fn resolve(name: &str) -> Result<Image, InvalidName> {
    let invalid = || InvalidName(name.to_owned());
    let (path, digest) = name
        .split_once('@')
        .map_or((name, None), |(path, digest)| (path, Some(digest)));
    let last = path.rsplit('/').next().unwrap_or(path);
    let (last, tag) = last
        .split_once(':')
        .map_or((last, None), |(last, tag)| (last, Some(tag)));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let ends = |text: &str| {
        let ends = [text.chars().next(), text.chars().next_back()];
        ends.iter()
            .all(|c| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let tag_fits = tag.is_none_or(|t| (1..=128).contains(&t.len()) && t.chars().all(word));
    let digest_fits = digest.is_none_or(|d| {
        d.split_once(':')
            .is_some_and(|(a, b)| !a.is_empty() && b.len() >= 32)
    });
    let path_fits = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-:/[]".contains(c))
        && path.split('/').all(|part| !part.is_empty());
    if !(ends(last) && last.chars().all(plain) && tag_fits && digest_fits && path_fits) {
        return Err(invalid());
    }
    Ok(if last == OWN {
        Image::Malha
    } else {
        Image::Host
    })
}

/// What a status calls the image's content.
pub fn id(image: Image) -> &'static str {
    match image {
        Image::Malha => concat!("malha://programs@", env!("CARGO_PKG_VERSION")),
        Image::Host => "malha://host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_decides() {
        let table = [
            ("malha", Some(Image::Malha)),
            ("malha:v1", Some(Image::Malha)),
            (
                "registry.example:5000/a/malha:v1@sha256:0123456789012345678901234567890123456789",
                Some(Image::Malha),
            ),
            ("malha/tool", Some(Image::Host)),
            ("not-malha", Some(Image::Host)),
            ("busybox", Some(Image::Host)),
            (
                "registry.k8s.io/e2e-test-images/agnhost:2.47",
                Some(Image::Host),
            ),
            ("", None),
            ("Malha", None),
            ("a b", None),
            ("malha:", None),
            ("/malha", None),
            ("x@sha256", None),
        ];
        for (name, image) in table {
            assert_eq!(resolve(name).ok(), image, "{name}");
        }
    }
}
