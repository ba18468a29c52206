"""For the tests of programs that use nimclient: the simulator, and fixtures for it.

With pytest the fixtures `nim_simulator` and `nim_simulator_url` (its address) are there as soon as nimclient is installed.
"""

from nimclient.simulator import RequestRecord, Simulator, SimulatorThread

__all__ = ["RequestRecord", "Simulator", "SimulatorThread"]
