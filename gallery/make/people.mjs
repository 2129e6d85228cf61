// Prints, as JSON, the portraits of every person: name/mouth/brows/shirt -> SVG.
// A person is hair, skin, glasses, beard and nose; mouth, brows and shirt vary.
import { pathToFileURL } from "node:url";

const [core, micah] = await Promise.all(
  process.argv.slice(2).map((folder) => import(pathToFileURL(`${folder}/lib/index.js`))),
);

// hair, its colour, skin, glasses, beard, nose
const PEOPLE = {
  Mira: ["full", "77311d", "f9c9b6", "", "", "pointed"],
  Bella: ["full", "fc909f", "ac6651", "", "", "curve"],
  Ada: ["full", "000000", "77311d", "round", "", "curve"],
  Sofia: ["full", "f4d150", "f9c9b6", "square", "", "curve"],
  Lena: ["pixie", "fc909f", "f9c9b6", "", "", "curve"],
  Nina: ["pixie", "f4d150", "ac6651", "square", "", "pointed"],
  Omar: ["turban", "9287ff", "ac6651", "round", "scruff", "pointed"],
  Zara: ["turban", "fc909f", "77311d", "", "", "curve"],
  Theo: ["fonze", "f4d150", "f9c9b6", "round", "", "curve"],
  Otto: ["fonze", "6bd9e9", "77311d", "", "", "tound"],
  Kofi: ["mrT", "000000", "77311d", "", "scruff", "tound"],
  Finn: ["mrT", "e0492e", "f9c9b6", "round", "", "pointed"],
  Hugo: ["dougFunny", "77311d", "f9c9b6", "", "scruff", "tound"],
  Ivan: ["mrClean", "f4d150", "f9c9b6", "", "beard", "tound"],
  Yuki: ["dannyPhantom", "ffffff", "f9c9b6", "", "", "curve"],
  Ravi: ["dannyPhantom", "000000", "ac6651", "square", "", "curve"],
};
const MOUTHS = { smiling: "smile", laughing: "laughing", sad: "sad", surprised: "surprised" };
const SHIRTS = { red: "e2483d", blue: "3d7be2", green: "3da35d", yellow: "f4d150" };

const portraits = {};
for (const [name, [hair, hairColor, skin, glasses, beard, nose]] of Object.entries(PEOPLE))
  for (const [mouth, drawn] of Object.entries(MOUTHS))
    for (const brows of ["up", "down"])
      for (const [shirt, shirtColor] of Object.entries(SHIRTS))
        portraits[[name, mouth, brows, shirt].join("/")] = core
          .createAvatar(micah, {
            seed: "gallery",
            hair: [hair],
            hairColor: [hairColor],
            baseColor: [skin],
            glasses: [glasses || "round"],
            glassesColor: ["000000"],
            glassesProbability: glasses ? 100 : 0,
            facialHair: [beard || "beard"],
            facialHairColor: [hairColor === "9287ff" ? "000000" : hairColor],
            facialHairProbability: beard ? 100 : 0,
            nose: [nose],
            ears: ["attached"],
            earringsProbability: 0,
            eyes: ["eyes"],
            eyebrows: [brows],
            mouth: [drawn],
            shirt: ["crew"],
            shirtColor: [shirtColor],
          })
          .toString();
process.stdout.write(JSON.stringify(portraits));
