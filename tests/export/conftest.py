import exported_models
import pytest


@pytest.fixture(scope="session")
def export_of(tmp_path_factory):
    """The case of a name and the folder of its export, written once for all tests, which leave it as it is."""
    root, made = tmp_path_factory.mktemp("exports") / "with a space", {}

    def get(name):
        if name not in made:
            exported_models.write(exported_models.CASES[name](), root / name)
            made[name] = root / name
        return exported_models.CASES[name](), made[name]

    return get
