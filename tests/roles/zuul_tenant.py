# SPDX-License-Identifier: Apache-2.0
"""Load a tenant's configuration by Zuul's own loader, and print what came of it as JSON.

Runs by the Python of an environment that has Zuul. What a scheduler has besides, ZooKeeper and
mergers, is needed to fetch the files only; here they lie in folders.

usage: python zuul_tenant.py FOLDER, which holds ``PROJECT/zuul.d/*.yaml`` for each of PROJECTS.
"""

from __future__ import annotations

import configparser
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zuul import model, model_api
from zuul.configloader import TenantParser
from zuul.driver.git import GitDriver
from zuul.driver.zuul import ZuulDriver
from zuul.lib.ansible import AnsibleManager
from zuul.lib.connections import ConnectionRegistry
from zuul.zk.components import COMPONENT_REGISTRY

PROJECTS = {
    "config-projects": ["tenant-config"],
    "untrusted-projects": ["buildset/registry", "app", "base"],
}
#: The one that Zuul reads a trusted project's configuration from by default.
BRANCH = "master"


class AnyKey:
    """A project's key, by which whatever was encrypted is one text."""

    def decrypt(self, *_words: Any) -> bytes:
        """Decrypt anything."""
        return b"hidden"


def connect() -> Any:
    """Return Zuul's drivers with one connection, to a site of git repositories."""
    settings = configparser.ConfigParser()
    settings["connection git"] = {"driver": "git", "baseurl": "https://git.example.org"}
    # Its constructor makes every driver there is, one of which wants bubblewrap on the machine.
    connections = ConnectionRegistry.__new__(ConnectionRegistry)
    connections.drivers = {}
    for driver in (GitDriver(), ZuulDriver()):
        connections.registerDriver(driver)
    connections.configure(settings, sources=True, triggers=True)
    # It would ask the site.
    connections.connections["git"].getProjectBranches = lambda *_words: [BRANCH]
    return connections


def load(folder: Path) -> Any:
    """Return the layout of the tenant, as the scheduler makes it."""
    keys = {"getProjectSecretsKeys", "getProjectSSHKeys", "getTenantSSHKeys"}
    no_keys = SimpleNamespace(**dict.fromkeys(keys, lambda *_names: (AnyKey(), None)))
    settings = SimpleNamespace(web_root=None)
    parser = TenantParser(connect(), None, None, None, no_keys, settings, None, None)

    def read(abide: Any, tenant: Any, context: Any, *_cached: Any) -> None:
        for project in tenant.all_tpcs:
            read_files(folder, parser, abide, context, project.project)

    # The one step that needs mergers, and ZooKeeper to keep what they fetched.
    parser._cacheTenantYAML = read
    wanted = {"name": "example", "source": {"git": PROJECTS}}
    abide, projects = model.Abide(), model.TenantTPCRegistry()
    with ThreadPoolExecutor() as executor:
        trusted, untrusted = parser.loadTenantProjects(wanted, executor)
        for project in trusted:
            projects.addConfigTPC(project)
        for project in untrusted:
            projects.addUntrustedTPC(project)
        abide.setTPCRegistry("example", projects)
        system = SimpleNamespace(system_id="example")
        return parser.fromYaml(abide, wanted, AnsibleManager(), executor, system).layout


def read_files(folder: Path, parser: Any, abide: Any, context: Any, project: Any) -> None:
    """Parse the files of a project and put them where the loader takes them from."""
    cache = abide.getConfigObjectCache(project.canonical_name, BRANCH)
    for path in sorted((folder / project.name / "zuul.d").glob("*.yaml")):
        name = f"zuul.d/{path.name}"
        source = model.SourceContext(project.canonical_name, project.name, "git", BRANCH, name)
        with context.errorContext(source_context=source):
            cache.put(name, parser.loadProjectYAML(path.read_text(), source, context), 0)


def freeze(layout: Any, name: str) -> Any:
    """Return a job with all that it inherits."""
    job = layout.getJob(name)
    lineage = [job]
    while not lineage[-1].isBase():
        lineage.append(layout.getJob(lineage[-1].parent or layout.tenant.default_base_job))
    final = lineage.pop().copy()
    final.setBase(layout, None)
    for variant in reversed(lineage):
        final.applyVariant(variant, layout, None)
    return final


def describe(job: Any) -> dict[str, Any]:
    """Tell the playbooks of a job, where their roles come from, and what secrets they have."""
    phases = {phase: getattr(job, phase) for phase in ("pre_run", "run", "post_run")}
    told: dict[str, Any] = {"post_review": bool(job.post_review)}
    return told | {
        phase: [
            {
                "project": playbook.source_context.project_name,
                "path": playbook.path,
                "roles": [role.project_name for role in playbook.roles],
                "secrets": [secret.name for secret in playbook.frozen_secrets],
            }
            for playbook in playbooks
        ]
        for phase, playbooks in phases.items()
    }


def pipelines(layout: Any) -> dict[str, dict[str, list[str]]]:
    """Tell which jobs each project runs in which pipeline."""
    told: dict[str, dict[str, list[str]]] = {}
    for name, configs in layout.project_configs.items():
        project = told.setdefault(name.partition("/")[2], {})
        for config in configs:
            for pipeline, jobs in config.pipelines.items():
                project.setdefault(pipeline, []).extend(jobs.job_list.jobs)
    return told


def main(folder: Path) -> None:
    """Print errors, jobs and what projects run."""
    # ZooKeeper knows which versions of Zuul there are; here it is this one.
    COMPONENT_REGISTRY.registry = SimpleNamespace(model_api=model_api.MODEL_API)
    layout = load(folder)
    errors = [str(error.error) for error in layout.loading_errors.errors]
    jobs = (
        {}
        if errors
        else {name: describe(freeze(layout, name)) for name in layout.jobs if name != "noop"}
    )
    json.dump({"errors": errors, "jobs": jobs, "projects": pipelines(layout)}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
