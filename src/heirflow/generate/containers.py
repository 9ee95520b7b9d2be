"""Files for containers: a service of Compose, and a Deployment of Kubernetes.

The member is the container's first process. Where HeirFlow is started by its own name, the image's entry point is replaced, so
that the same words work in every image. Airflow's image needs its entry point, which runs `python` as it is.
"""

from __future__ import annotations

from heirflow.generate.plan import PROBE_EVERY_S, PROBE_FAILURES, PROBE_LIMIT_S, Plan
from heirflow.generate.words import for_yaml, for_yaml_list, label

SECRET_OF_COMPOSE = "/run/secrets/db-url"  # noqa: S105  a place, and no secret
FOLDER_OF_KUBERNETES = "/run/secrets/heirflow"


def compose(plan: Plan, *, image: str, user: str | None, environment_file: str | None, directory: str | None) -> str:
    """The text of a compose file with one service."""

    def text(value: str) -> str:
        return for_yaml(value.replace("$", "$$"))

    def words(*several: str) -> str:
        return for_yaml_list([word.replace("$", "$$") for word in several])

    service = label(plan.name)
    database = None if plan.db_url_file is None else SECRET_OF_COMPOSE
    run = plan.run(database)
    lines = [
        *plan.head(
            "#",
            "Use the same file on every host of the line: docker compose up --detach",
            f"To try it on one host: docker compose up --scale {service}=2",
        ),
        "services:",
        f"  {for_yaml(service)}:",
        f"    image: {text(image)}",
    ]
    if plan.of_airflow:
        lines.append(f"    command: {words(*plan.heirflow, *run)}")
    else:
        lines += [f"    entrypoint: {words(*plan.heirflow)}", f"    command: {words(*run)}"]
    lines += [
        *([f"    user: {text(user)}"] if user else []),
        *([f"    working_dir: {text(directory)}"] if directory else []),
        *([f"    env_file: [{text(environment_file)}]"] if environment_file else []),
        "    restart: unless-stopped",
        "    stop_signal: SIGTERM",
        f"    # Above --stop-timeout ({plan.stop_timeout_s:g} s), with time to kill, to prove that all is gone, and to release.",
        f"    stop_grace_period: {plan.stop_wait_s}s",
        "    # It asks the member, and not the program: an heir's program is not running.",
        "    healthcheck:",
        f"      test: {words('CMD', *plan.probe('live'))}",
        f"      interval: {PROBE_EVERY_S}s",
        f"      timeout: {PROBE_LIMIT_S}s",
        f"      retries: {PROBE_FAILURES}",
        f"      start_period: {plan.start_wait_s}s",
    ]
    if plan.db_url_file is not None:
        lines += [
            "    secrets:",
            "      - db-url",
            "secrets:",
            "  db-url:",
            "    # Docker mounts this file as it is: it must belong to the user in the container, with chmod 600.",
            f"    file: {text(plan.db_url_file)}",
        ]
    return "\n".join(lines) + "\n"


def kubernetes(
    plan: Plan,
    *,
    image: str,
    user: int,
    group: int,
    replicas: int,
    secret: str | None,
    environment_secret: str | None,
    directory: str | None,
    privileges: bool,
) -> str:
    """The text of a Deployment and its budget. `secret`: the Secret that holds ``db-url``."""
    app = for_yaml(label(plan.name))
    database = None if secret is None else f"{FOLDER_OF_KUBERNETES}/db-url"

    def expanded(*several: str) -> str:
        """Kubernetes replaces $(NAME) in `command` and `args`, and in no probe."""
        return for_yaml_list([word.replace("$", "$$") for word in several])

    def probe(kind: str, question: str, every_s: int, failures: int) -> list[str]:
        return [
            f"          {kind}:",
            "            exec:",
            f"              command: {for_yaml_list(plan.probe(question))}",
            f"            periodSeconds: {every_s}",
            f"            timeoutSeconds: {PROBE_LIMIT_S}",
            f"            failureThreshold: {failures}",
        ]

    run = plan.run(database)
    start = [
        *([] if plan.of_airflow else [f"          command: {expanded(*plan.heirflow)}"]),
        f"          args: {expanded(*plan.heirflow, *run) if plan.of_airflow else expanded(*run)}",
    ]
    made = f"kubectl create secret generic {secret} --from-file=db-url=FILE"
    lines = [
        *plan.head("#", *([f"The URL of the database is in a Secret: {made}"] if secret else [])),
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        f"  name: {app}",
        "  labels:",
        f"    app.kubernetes.io/name: {app}",
        "spec:",
        "  # One leads, the others stand in line.",
        f"  replicas: {replicas}",
        "  selector:",
        "    matchLabels:",
        f"      app.kubernetes.io/name: {app}",
        "  strategy:",
        "    type: RollingUpdate",
        "    rollingUpdate:",
        "      maxSurge: 1",
        "      maxUnavailable: 0",
        "  template:",
        "    metadata:",
        "      labels:",
        f"        app.kubernetes.io/name: {app}",
        "    spec:",
        f"      # Above --stop-timeout ({plan.stop_timeout_s:g} s), with time to kill, to prove that all is gone, and to release.",
        f"      terminationGracePeriodSeconds: {plan.stop_wait_s}",
        "      # An heir on the leader's own node would go with it.",
        "      topologySpreadConstraints:",
        "        - maxSkew: 1",
        "          topologyKey: kubernetes.io/hostname",
        "          whenUnsatisfiable: ScheduleAnyway",
        "          labelSelector:",
        "            matchLabels:",
        f"              app.kubernetes.io/name: {app}",
        "      securityContext:",
        f"        runAsNonRoot: {str(user != 0).lower()}",
        f"        runAsUser: {user}",
        f"        runAsGroup: {group}",
        # It lets the user read the Secret's file; root can without.
        *([f"        fsGroup: {group}"] if user else []),
        "      containers:",
        f"        - name: {app}",
        f"          image: {for_yaml(image)}",
        *start,
        *([f"          workingDir: {for_yaml(directory)}"] if directory else []),
        *(["          envFrom:", "            - secretRef:"] if environment_secret else []),
        *([f"                name: {for_yaml(environment_secret)}"] if environment_secret else []),
        "          securityContext:",
        f"            allowPrivilegeEscalation: {str(privileges).lower()}",
        "          # The probes ask the member, and not the program: an heir's program is not running.",
        *probe("startupProbe", "live", 5, -(-plan.start_wait_s // 5)),
        *probe("livenessProbe", "live", PROBE_EVERY_S, PROBE_FAILURES),
        "          # A rollout goes on when the new member leads or could take charge.",
        *probe("readinessProbe", "able", PROBE_EVERY_S, 1),
    ]
    if secret is not None:
        lines += [
            "          volumeMounts:",
            "            - name: db-url",
            f"              mountPath: {FOLDER_OF_KUBERNETES}",
            "              readOnly: true",
            "      volumes:",
            "        - name: db-url",
            "          secret:",
            f"            secretName: {for_yaml(secret)}",
            f"            defaultMode: {'0440' if user else '0400'}",
        ]
    lines += [
        "---",
        "# While nodes are drained, the members leave one after the other.",
        "apiVersion: policy/v1",
        "kind: PodDisruptionBudget",
        "metadata:",
        f"  name: {app}",
        "spec:",
        "  maxUnavailable: 1",
        "  selector:",
        "    matchLabels:",
        f"      app.kubernetes.io/name: {app}",
    ]
    return "\n".join(lines) + "\n"
