"""The length of a fuzzing."""


def pytest_addoption(parser):
    parser.addoption("--inputs", type=int, default=0, help="Spoiled files of each kind.")
