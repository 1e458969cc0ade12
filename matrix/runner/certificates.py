"""A test CA, and certificates by it for pgdrain and for Postgres."""

import os
import subprocess

LEAF = """\
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def key(name, cwd):
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key", cwd=cwd)
    os.chmod(cwd / f"{name}.key", 0o600)


def make(directory, account):
    """Writes `ca.crt`, and `pgdrain` and `postgres` with `.crt` and `.key`; the last for its account."""
    directory.mkdir()
    key("ca", directory)
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=pgdrain matrix", "-days", "2", "-out", "ca.crt",
            cwd=directory)
    (directory / "leaf.conf").write_text(LEAF)
    for name in ("pgdrain", "postgres"):
        key(name, directory)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr", cwd=directory)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", "leaf.conf", "-out", f"{name}.crt", cwd=directory)
    if account:
        os.chown(directory / "postgres.key", account.pw_uid, account.pw_gid)
