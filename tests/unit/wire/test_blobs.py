import pytest

from windflower.errors import MalformedMessage
from windflower.wire.blobs import BLOB_BYTES, BlobRef, Grant, reply_key

DIGEST = "0123456789abcdef" * 4
GRANT = Grant("GET", f"blobs/{DIGEST}", "https://blobs.example/get/a?s=1", 10, 60.0)


def test_a_blob_is_kept_under_its_digest() -> None:
    assert f"blobs/{DIGEST}" == BlobRef(DIGEST, 1).key


def test_a_replys_pack_is_kept_under_run_device_and_command() -> None:
    assert "out/r1/pi-07/c0ffee" == reply_key("r1", "pi-07", "c0ffee")


@pytest.mark.parametrize("size", [0, 1, BLOB_BYTES])
def test_a_blob_has_up_to_a_tebibyte(size: int) -> None:
    assert BlobRef(DIGEST, size) == BlobRef.from_json({"digest": DIGEST, "size": size})


@pytest.mark.parametrize(
    "value",
    [
        {"digest": DIGEST, "size": -1},
        {"digest": DIGEST, "size": BLOB_BYTES + 1},
        {"digest": DIGEST, "size": 1.0},
        {"digest": DIGEST, "size": True},
        {"digest": DIGEST.upper(), "size": 1},
        {"digest": DIGEST[:-1], "size": 1},
        {"digest": DIGEST + "\n", "size": 1},
        {"digest": DIGEST},
        {"digest": DIGEST, "size": 1, "key": ""},
        [],
    ],
)
def test_anything_else_is_no_blob(value: object) -> None:
    with pytest.raises(MalformedMessage):
        BlobRef.from_json(value)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:8777/get/blobs/00?n=1&e=2&s=3",
        "https://bucket.s3.eu-central-1.amazonaws.com/out/r/d/c?X-Amz-Signature=00%2F",
        "https://[2001:db8::1]:443/",
        "http://h",
        "https://h/" + "a" * 4086,
    ],
)
def test_a_url_of_the_web_is_taken(url: str) -> None:
    assert url == Grant.from_json(GRANT.to_json() | {"url": url}).url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "https:///path",
        "ftp://h/",
        "file:///etc/passwd",
        "HTTP://h/",
        "http://h/ a",
        "http://h/\r\nX-Evil: 1",
        "http://h/\x7f",
        "http://h/ü",
        'http://h/"',
        "http://h/\\",
        "http://[/",
        "http://h:port/",
        "http://h:0/",
        "http://h:65536/",
        "https://h/" + "a" * 4087,
        7,
        None,
    ],
)
def test_any_other_url_is_refused(url: object) -> None:
    with pytest.raises(MalformedMessage):
        Grant.from_json(GRANT.to_json() | {"url": url})


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "POST"},
        {"method": "get"},
        {"key": "a" * 513},
        {"size": -1},
        {"ttl_s": -1},
        {"ttl_s": 1e10},
        {"ttl_s": "60"},
        {"note": ""},
    ],
)
def test_a_grant_with_anything_else_in_it_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        Grant.from_json(GRANT.to_json() | changed)
