"""A package of its own that adds a device handler to scstd."""

from setuptools import setup

setup(
    name="scstd-sqlite",
    version="1.0",
    install_requires=["scstd"],
    py_modules=["scstd_sqlite"],
    packages=["twisted.plugins"],
    package_data={"twisted.plugins": ["scstd_sqlite_plugin.py"]},
)
