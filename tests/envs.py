"""Small environments with known answers, registered as `envs:Name-v0`.

For whoever has this folder on the path.
"""

import random
import threading

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, Tuple


class Scalar(gym.Env):
    """Base: one observation, the step within the episode; one action in [-1, 1]; reward 1.

    Ends by time limits only.
    """

    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def observe(self):
        return np.array([self.t], np.float32)

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, False, False, {}


class Noise(Scalar):
    """Observations that say nothing, so that every state is worth the same."""

    observation_space = Box(-np.inf, np.inf, (2,))

    def observe(self):
        return self.np_random.normal(size=2).astype(np.float32)


class Mortal(Scalar):
    """Dies at step 7.

    After the death only the reset observation, 100, and 50 per step later, is to be seen.
    """

    def observe(self):
        return np.array([self.t if self.t else 100], np.float32)

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.t == 7, False, info


class TwoLengths(Scalar):
    """Dies at step 3 or at step 30, as the reset draws it."""

    def reset(self, seed=None, options=None):
        result = super().reset(seed=seed)
        self.length = 3 if self.np_random.random() < 0.5 else 30
        return result

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.t == self.length, False, info


class OwnBuffer(Scalar):
    """Returns the same array at every step, and writes the reset observation into it."""

    buffer = None

    def observe(self):
        if self.buffer is None:
            self.buffer = np.zeros(1, np.float32)
        self.buffer[:] = self.t if self.t else 100
        return self.buffer


class LQR(Scalar):
    """x' = 0.9 x + 0.5 u, reward -(x² + 0.2 u²), start states in [-1, 1].

    The bounds of u are never met.
    """

    action_space = Box(-4, 4, (1,))

    def observe(self):
        if self.t == 0:
            self.x = self.np_random.uniform(-1, 1)
        return np.array([self.x], np.float32)

    def step(self, action):
        self.t += 1
        reward = -(self.x**2 + 0.2 * float(action[0]) ** 2)
        self.x = 0.9 * self.x + 0.5 * float(action[0])
        return self.observe(), reward, False, False, {}


class Bounds(Scalar):
    """Reward for actions near targets that lie in asymmetric bounds, one pair of them infinite.

    Shape (2, 2).
    """

    low = np.array([[2, -1], [-0.5, -np.inf]], np.float32)
    high = np.array([[3, 5], [0.25, np.inf]], np.float32)
    action_space = Box(low, high)
    target = np.array([[2.75, 4], [0, -0.5]])

    def step(self, action):
        assert action.shape == (2, 2) and action.dtype == np.float32
        assert (action >= self.low).all() and (action <= self.high).all()
        obs, _, _, _, info = super().step(action)
        return obs, -float(np.abs(action - self.target).sum()), False, False, info


class Bounded(Bounds):
    """The same with all bounds finite."""

    low = np.array([[2, -1], [-0.5, -3]], np.float32)
    high = np.array([[3, 5], [0.25, -1]], np.float32)
    action_space = Box(low, high)
    target = np.array([[2.75, 4], [0, -1.5]])


class Matrix(Scalar):
    observation_space = Box(-1, 1, (3, 2))

    def observe(self):
        return self.observation_space.sample() if self.t == 0 else np.full((3, 2), 0.5, np.float32)


class DictObs(Scalar):
    observation_space = Dict({"position": Box(-1, 1, (2,)), "mode": Discrete(3)})

    def observe(self):
        return {"position": np.zeros(2, np.float32), "mode": self.t % 3}


class GraphObs(Scalar):
    observation_space = Graph(Box(-1, 1, (2,)), None)


class DiscreteAction(Scalar):
    action_space = Discrete(2)


class AboveFive(Scalar):
    """Reward -(a - target)², an action space with one finite side."""

    observation_space = Box(-1, 1, (2,))
    action_space = Box(5, np.inf, (1,))
    target = 7

    def observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        obs, _, *rest = super().step(action)
        return obs, -float((action[0] - self.target) ** 2), *rest


class BelowThree(AboveFive):
    action_space = Box(-np.inf, 3, (1,), np.float64)
    target = 1


class Huge(AboveFive):
    """Bounds that mean none."""

    action_space = Box(-1e10, 1e10, (1,))
    target = 1


class HugeFinite(AboveFive):
    """The largest numbers of the type as bounds."""

    action_space = Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (1,))
    target = 1


class Offset(Scalar):
    """Reward -(a - x)² for an observation offset + scale x, in 64 bits."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    offset, scale = 1e5, 0.1

    def observe(self):
        self.x = self.np_random.uniform(-1, 1)
        return np.array([self.offset + self.scale * self.x])

    def step(self, action):
        reward = -((float(action[0]) - self.x) ** 2)
        obs, _, *rest = super().step(action)
        return obs, reward, *rest


class Tiny(Offset):
    offset, scale = 0, 1e-8


class Large(Offset):
    offset, scale = 0, 1e12


class IntegerAction(Scalar):
    action_space = Box(-3, 3, (1,), np.int64)


class HugeObs(Scalar):
    """A sensor that fails once in an episode: finite, but its square is not."""

    def observe(self):
        return np.array([np.finfo(np.float32).max if self.t == 20 else self.t], np.float32)


class HugeReward(Scalar):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 1e30 if self.t == 20 else reward, *rest


class NaN(Scalar):
    """The reward at step 40 is not a number, and from step 60 on neither is the observation."""

    def observe(self):
        return np.array([np.nan if self.t >= 60 else self.t], np.float32)

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.nan if self.t == 40 else reward, *rest


class NaNObs(NaN):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 1.0, *rest


class LateNaN(Scalar):
    """The reward becomes no number in the fourth episode, after updates."""

    episodes = 0

    def reset(self, seed=None, options=None):
        self.episodes += 1
        return super().reset(seed=seed)

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.nan if self.episodes == 4 else reward, *rest


class Crash(Scalar):
    def step(self, action):
        if self.t == 60:
            raise ValueError("the environment's own mistake")
        return super().step(action)


class Endless(Scalar):
    """Neither dies nor ends."""


class SeedReader(Scalar):
    """A simulator whose seed is an int32."""

    def reset(self, seed=None, options=None):
        assert seed is None or 0 <= np.int32(seed) == seed
        return super().reset(seed=seed)


class Success(Scalar):
    """Says in info whether an episode was a success: half of one, here."""

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, {"is_success": 0.5}


class Long(Scalar):
    """Episodes longer than a checkpoint interval of 250 steps."""


class Busy(Scalar):
    """Puts all sorts of things into info, Gymnasium's own keys among them.

    Reset takes no options.
    """

    def reset(self, seed=None, options=None):
        assert options is None
        return super().reset(seed=seed)[0], {"contacts": np.zeros(3), "final_info": None}

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        info = {"contacts": np.zeros(self.t), "final_obs": 1, "nothing": None, "episode": "short"}
        return obs, np.array(reward), terminated, truncated, info


class OneOnly(Scalar):
    """A simulator on a port: a second one at the same time fails."""

    running = False

    def __init__(self):
        if OneOnly.running:
            raise OSError("address already in use")
        OneOnly.running = True

    def close(self):
        OneOnly.running = False


class Resource(Scalar):
    """Starts a thread that only close() ends: a process that forgets it never ends.

    `fails` says where the environment makes a mistake.
    """

    fails = ""
    made = 0

    def __init__(self):
        Resource.made += 1
        if self.fails == "third" and Resource.made == 3:
            raise RuntimeError("no third one")
        self.closed = threading.Event()
        threading.Thread(target=self.closed.wait).start()

    def step(self, action):
        if self.fails == "step":
            raise RuntimeError("no step")
        if self.fails == "interrupt":
            raise KeyboardInterrupt
        return super().step(action)

    def close(self):
        self.closed.set()


class NoStep(Resource):
    fails = "step"


class Interrupted(Resource):
    fails = "interrupt"


class NoThird(Resource):
    fails = "third"


class ResourceDiscrete(Resource):
    action_space = Discrete(2)


class FloatsInIntegers(Scalar):
    """A space of integers for observations of floats: cast, they would all be 0."""

    observation_space = Box(-1, 1, (1,), np.int64)

    def observe(self):
        return np.array([0.5])


class FloatsInIntegersOfADict(Scalar):
    observation_space = Dict({"mode": Discrete(3), "x": Tuple([Box(-1, 1, (1,), np.int64)])})

    def observe(self):
        return {"mode": 1, "x": (np.array([0.5]),)}


class AnotherShape(Scalar):
    observation_space = Box(-1, 1, (3,))


class AnotherShapeLater(Scalar):
    """Only reset's observation fits the space."""

    def observe(self):
        return np.zeros(1 if self.t == 0 else 2)


class ListObs(Scalar):
    """Observations as a list of numbers of 64 bits, ends as arrays."""

    def observe(self):
        return [float(self.t)]

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, np.array([terminated]), np.bool_(truncated), info


class GlobalRandom(Scalar):
    """Observations from generators that reset does not seed by itself."""

    observation_space = Box(-1, 1, (5,))

    def observe(self):
        draws = [random.random(), np.random.uniform(), float(torch.rand(()))]
        samples = [self.action_space.sample()[0], self.observation_space.sample()[0]]
        return np.array(draws + samples, np.float32)


class ArrayReward(AboveFive):
    """Reward as an array of one number."""

    action_space = Box(-1, 1, (1,))

    def step(self, action):
        obs, _, *rest = Scalar.step(self, action)
        return obs, -((np.asarray(action) - 0.5) ** 2), *rest


class NoReward(Scalar):
    reward = None

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.reward, *rest


class TwoRewards(NoReward):
    reward = np.zeros(2)


class WordReward(NoReward):
    reward = "good"


class Kwargs(Scalar):
    """Reward by a keyword argument."""

    def __init__(self, reward=1.0, model=""):
        self.reward = reward
        if model.endswith(".xml"):
            mujoco.MjModel.from_xml_path(model)
        elif model:
            open(model)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.reward, *rest


LIMITS = {
    "AboveFive": 20,
    "BelowThree": 20,
    "Huge": 20,
    "HugeFinite": 20,
    "ArrayReward": 20,
    "Long": 300,
    "Offset": 20,
    "Tiny": 20,
    "Large": 20,
    "Scalar": 50,
    "LateNaN": 50,
    "Noise": 50,
    "Mortal": 1000,
    "TwoLengths": 1000,
    "OwnBuffer": 10,
    "LQR": 20,
    "Endless": None,
}
for name, cls in list(globals().items()):
    if isinstance(cls, type) and issubclass(cls, gym.Env) and cls is not gym.Env:
        gym.register(f"{name}-v0", entry_point=cls, max_episode_steps=LIMITS.get(name, 100))
