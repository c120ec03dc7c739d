"""Small environments with known answers, registered as `envs:Name-v0` for whoever has this folder on the path."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Graph


class Scalar(gym.Env):
    """Base: one observation, the step within the episode; one action in [-1, 1]; reward 1; ends by time limits only."""

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
    """Dies at step 7; after the death only the reset observation, 100, and 50 per step later, is to be seen."""

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
    """x' = 0.9 x + 0.5 u, reward -(x² + 0.2 u²), start states in [-1, 1]; the bounds of u are never met."""

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
    """Reward for actions near targets that lie in asymmetric bounds, one pair of them infinite; shape (2, 2)."""

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


class Crash(Scalar):
    def step(self, action):
        if self.t == 60:
            raise ValueError("the environment's own mistake")
        return super().step(action)


class Endless(Scalar):
    """Neither dies nor ends."""


LIMITS = {"Scalar": 50, "Noise": 50, "Mortal": 1000, "TwoLengths": 1000, "OwnBuffer": 10, "LQR": 20, "Endless": None}
for cls in (
    Scalar,
    Noise,
    Mortal,
    TwoLengths,
    OwnBuffer,
    LQR,
    Bounds,
    Bounded,
    Matrix,
    DictObs,
    GraphObs,
    DiscreteAction,
    NaN,
    NaNObs,
    Crash,
    Endless,
):
    name = cls.__name__
    gym.register(f"{name}-v0", entry_point=cls, max_episode_steps=LIMITS.get(name, 100))
