"""Who may do what on the page inside Airflow, by Airflow's own rights."""

from __future__ import annotations

from typing import Any

ORDERS_NEED = "orders need the right to change pools (in Airflow: the roles Op and Admin)"


def may_order(manager: Any, user: Any) -> bool:
    """Whether somebody may give orders: who may change pools, and so decides how much of Airflow runs at once.

    Of the rights that every auth manager asks about, this is one that those who run Airflow have and those who only read do not.
    The right to change the configuration would not do: with FAB nobody has it, not even an administrator.
    """
    return bool(manager.is_authorized_pool(method="PUT", user=user))


def name_of(user: Any) -> str:
    """Who gives an order, for the history."""
    return f"{user.get_name()}, in Airflow"
