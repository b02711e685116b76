from .fixtures import vendor

__all__ = ["vendor"]
