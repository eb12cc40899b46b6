# SPDX-License-Identifier: Apache-2.0
"""nginx in front of registries, with all that it writes in a folder of the test."""

from __future__ import annotations

from pathlib import Path

_CONFIGURATION = """
daemon off;
{main}
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def nginx_command(folder: Path, servers: str, main: str = "") -> list[str]:
    """Write a configuration with these servers; returns the command that serves them."""
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, servers=servers, main=main))
    words = ["-p", str(folder), "-c", str(file), "-e", str(folder / "nginx.log")]
    return ["/usr/sbin/nginx", *words]
