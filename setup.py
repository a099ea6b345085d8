# SPDX-License-Identifier: MIT
"""
The package's metadata; the tools' settings are in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "scstd/__init__.py").read_text(), re.MULTILINE
)
assert VERSION is not None

setup(
    name="scstd",
    version=VERSION[1],
    description="An iSCSI target in user space: SCST as a framework with plugins",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Networking",
    ],
    # twisted.plugins has no __init__.py: it is Twisted's, we put one file there.
    # Our tests run from a checkout; what others test with is in scstd.testing.
    packages=[
        *find_packages(
            include=["scstd", "scstd.*"], exclude=["scstd.test", "scstd.test.*"]
        ),
        "twisted.plugins",
    ],
    package_data={"twisted.plugins": ["scstd_plugins.py"], "scstd": ["py.typed"]},
    data_files=[
        ("share/man/man5", ["doc/man/scst.conf.5"]),
        (
            "share/man/man8",
            [
                "doc/man/scst-iscsi.8",
                "doc/man/scstadmin.8",
                "doc/man/iscsi-scst-adm.8",
                "doc/man/iscsi-scstd.8",
            ],
        ),
        (
            "share/bash-completion/completions",
            ["contrib/completion/scstadmin.bash"],
        ),
        ("share/zsh/site-functions", ["contrib/completion/_scstadmin"]),
        (
            "share/doc/scstd",
            [
                "contrib/scst.conf",
                "contrib/systemd/scstd.service",
                "contrib/systemd/scstd.socket",
                "contrib/systemd/scstd.sysusers.conf",
            ],
        ),
    ],
    install_requires=[
        # Protocols, services, plugins, endpoints; conch is the SSH console, tls lets
        # --listen take ssl: endpoints.
        "Twisted[conch,tls] >= 23.8",
        # Certificates and keys: TLS portals, the console's host key.
        "cryptography >= 38",
        # The certificates of TLS connections, as Twisted shows them.
        "pyOpenSSL >= 22",
        # Checks the certificates that TLS endpoints are given.
        "service-identity >= 21.1",
        # The interfaces of plugins.
        "zope.interface >= 5.4",
        # PDUs, tasks and configuration objects.
        "attrs >= 22.2",
        # Header and data digests, with the processor's own instruction.
        "crc32c >= 2.3",
    ],
    entry_points={
        "console_scripts": [
            "scstadmin = scstd.management.cli.scstadmin:entry",
            "iscsi-scst-adm = scstd.management.cli.adm:entry",
            "iscsi-scstd = scstd.daemon:entry",
        ]
    },
    extras_require={
        "dev": [
            # Lint and format.
            "ruff == 0.17.6",
            # Types; the plugin understands zope interfaces.
            "mypy == 2.4.1",
            "mypy-zope == 1.0.17",
            # Property tests of parsers.
            "hypothesis >= 6",
            # Decodes SCSI data that ours is compared with.
            "PYSCSI >= 2.1",
        ],
    },
    zip_safe=False,
)
