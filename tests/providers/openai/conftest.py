from ...vendors.fixtures import vendor

__all__ = ["vendor"]
