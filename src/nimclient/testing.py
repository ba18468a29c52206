"""For the tests of programs that use nimclient: the simulator, and fixtures for it.

With pytest the fixtures `nim_simulator` (in the test's event loop) and `nim_simulator_url` (in a thread, for blocking
code) are there as soon as nimclient is installed.
"""

from nimclient.simulator import RequestRecord, Simulator, SimulatorThread

__all__ = ["RequestRecord", "Simulator", "SimulatorThread"]
