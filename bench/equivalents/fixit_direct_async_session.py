import libcst as cst
from fixit import LintRule
from libcst.metadata import QualifiedNameProvider


class DirectAsyncSession(LintRule):
    METADATA_DEPENDENCIES = (QualifiedNameProvider,)

    def visit_Call(self, node: cst.Call) -> None:
        names = self.get_metadata(QualifiedNameProvider, node.func, set())
        if any(
            name.name.endswith("sqlalchemy.ext.asyncio.AsyncSession") for name in names
        ):
            self.report(node, "Use the handler.")
